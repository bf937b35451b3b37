//! The OpenAPI 3.1 document, made from the table of routes that the dispatch uses.

use utoipa::openapi::path::{
    HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn, PathsBuilder,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::{
    ComponentsBuilder, Content, InfoBuilder, LicenseBuilder, Object, ObjectBuilder, OpenApi,
    OpenApiBuilder, PathItem, Ref, ResponseBuilder, Type,
};

use crate::http::route::{Protocol, Route};

const JSON: &str = "application/json";

/// Schema of every error.
const ERROR: &str = "Error";

/// Describes the routes of these protocols.
pub(crate) fn document(protocols: &[&'static Protocol]) -> OpenApi {
    let mut paths = PathsBuilder::new();
    let error = ObjectBuilder::new().property("error", Object::with_type(Type::String));
    let mut components = ComponentsBuilder::new().schema(ERROR, error);
    for protocol in protocols {
        for route in protocol.routes {
            let method = method(route);
            paths = paths.path(route.template, PathItem::new(method, operation(protocol, route)));
        }
        for (name, schema) in (protocol.schemas)() {
            components = components.schema(component(protocol, name), schema);
        }
    }
    let info = InfoBuilder::new()
        .title("Trainyard model server")
        .version(env!("CARGO_PKG_VERSION"))
        .license(Some(
            LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build(),
        ));
    OpenApiBuilder::new()
        .info(info.build())
        .paths(paths.build())
        .components(Some(components.build()))
        .build()
}

/// Protocols may use one name for different things.
fn component(protocol: &Protocol, name: &str) -> String {
    format!("{}.{name}", protocol.name)
}

fn method(route: &Route) -> HttpMethod {
    match route.method.as_str() {
        "POST" => HttpMethod::Post,
        "OPTIONS" => HttpMethod::Options,
        _ => HttpMethod::Get,
    }
}

fn operation(protocol: &Protocol, route: &Route) -> OperationBuilder {
    let reference = |name: &str| Ref::from_schema_name(component(protocol, name));
    let mut ok = ResponseBuilder::new().description("Success");
    if let Some(name) = route.response {
        ok = ok.content(JSON, Content::new(Some(reference(name))));
    }
    let failed = ResponseBuilder::new()
        .description("Failure")
        .content(JSON, Content::new(Some(Ref::from_schema_name(ERROR))));
    let mut operation = OperationBuilder::new()
        .tag(protocol.name)
        .summary(Some(route.summary))
        .response("200", ok.build())
        .response("default", failed.build());
    if let Some(name) = route.request {
        let body = RequestBodyBuilder::new().content(JSON, Content::new(Some(reference(name))));
        operation = operation.request_body(Some(body.build()));
    }
    for name in parameters(route.template) {
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Path)
            .required(utoipa::openapi::Required::True)
            .schema(Some(Object::with_type(Type::String)));
        operation = operation.parameter(parameter.build());
    }
    operation
}

/// Names in braces.
fn parameters(template: &str) -> impl Iterator<Item = &str> {
    template.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::PROTOCOLS;

    #[test]
    fn agrees_with_the_dispatch() {
        let document = serde_json::to_value(document(&PROTOCOLS)).expect("serialises");
        assert_eq!(document["openapi"], "3.1.0");
        let paths = document["paths"].as_object().expect("an object");
        let mut documented = 0;
        for (path, item) in paths {
            for (method, operation) in item.as_object().expect("an object") {
                let method = method.to_uppercase().parse().expect("a method");
                // A value for each parameter makes the template a path.
                let sample: String = path
                    .split(['{', '}'])
                    .enumerate()
                    .map(|(index, part)| match index % 2 {
                        0 => part,
                        _ => "1",
                    })
                    .collect();
                let tag = operation["tags"][0].as_str().expect("a tag");
                let protocol = PROTOCOLS.iter().find(|protocol| protocol.name == tag).expect(tag);
                let found = protocol.find(&method, &sample).map(|found| found.route.template);
                assert_eq!(found, Ok(path.as_str()), "{method} {sample}");
                documented += 1;
            }
        }
        let routes: usize = PROTOCOLS.iter().map(|protocol| protocol.routes.len()).sum();
        assert_eq!(documented, routes, "every route is documented, and no two are the same");
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = serde_json::to_value(document(&PROTOCOLS)).expect("serialises");
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let (pointer, _) = reference.split_once('"').expect("ends");
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }
}
