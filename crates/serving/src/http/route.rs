//! The routes of every REST protocol: one registry that the dispatch, `/openapi.json` and the
//! metrics read.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::Method;
use http::request::Parts;
use percent_encoding::percent_decode_str;
use smallvec::SmallVec;
use utoipa::openapi::{RefOr, Schema};

use super::App;
use super::payload::Answer;
use crate::error::InferError;

/// A family of routes with one form of errors.
pub(crate) struct Protocol {
    /// For metrics and logs, such as `oip`.
    pub(crate) name: &'static str,
    /// Paths that belong to the protocol even if no route matches them, such as `/v1/`.
    pub(crate) prefix: &'static str,
    /// Tried from first to last: the busy ones come first, and of two that match, the earlier wins.
    pub(crate) routes: &'static [Route],
    /// Whether case matters in the fixed parts of a path.
    pub(crate) ignores_case: bool,
    /// The answer where no route matches, or none with this method.
    pub(crate) unmatched: fn(&Parts, Unmatched) -> Answer,
    /// The answer in place of the handler's when the request did not get that far.
    pub(crate) refusal: fn(&InferError) -> Answer,
    /// Schemas that the routes name. In the document a name has the protocol's in front
    /// (`oip.Tensor`), which is how one schema refers to another.
    pub(crate) schemas: fn() -> Vec<(&'static str, RefOr<Schema>)>,
}

/// One operation.
pub(crate) struct Route {
    pub(crate) method: Method,
    /// An OpenAPI path template. A parameter is a segment, or the part of one before or between
    /// fixed text, such as `{model}` in `/v1/models/{model}:predict`.
    pub(crate) template: &'static str,
    pub(crate) handler: Handler,
    /// One line for `/openapi.json`.
    pub(crate) summary: &'static str,
    /// The schema of the request's JSON body, by its name in [`Protocol::schemas`].
    pub(crate) request: Option<&'static str>,
    /// The schema of the answer's JSON body; none where the body is empty or no JSON.
    pub(crate) response: Option<&'static str>,
}

pub(crate) type Handler = fn(Call) -> BoxFuture<'static, Answer>;

/// A route that reads: its answer is JSON of the schema `response`.
pub(crate) const fn get(
    template: &'static str,
    summary: &'static str,
    response: &'static str,
    handler: Handler,
) -> Route {
    Route {
        method: Method::GET,
        template,
        handler,
        summary,
        request: None,
        response: Some(response),
    }
}

/// Why no handler was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unmatched {
    Path,
    /// The path has other methods.
    Method,
}

/// Parameters of a path by name, percent-decoded.
pub(crate) type Parameters = SmallVec<[(&'static str, String); 2]>;

/// A request, read completely, on its way to its handler.
pub(crate) struct Call {
    pub(crate) app: Arc<App>,
    pub(crate) head: Parts,
    /// The whole body, decompressed.
    pub(crate) body: Bytes,
    pub(crate) parameters: Parameters,
    /// When the client stops waiting, if it says.
    pub(crate) deadline: Option<Instant>,
}

impl Call {
    /// A parameter of the path; empty if the template does not have it.
    pub(crate) fn parameter(&self, name: &str) -> &str {
        let found = self.parameters.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    /// Takes a parameter of the path out; empty if the template does not have it.
    pub(crate) fn take_parameter(&mut self, name: &str) -> String {
        let found = self.parameters.iter_mut().find(|(known, _)| *known == name);
        found.map(|(_, value)| std::mem::take(value)).unwrap_or_default()
    }
}

/// A route that fits a request.
pub(crate) struct Found {
    /// Position in the protocol's table.
    pub(crate) index: usize,
    pub(crate) route: &'static Route,
    pub(crate) parameters: Parameters,
}

impl Protocol {
    /// Finds the route for a request.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Result<Found, Unmatched> {
        let mut unmatched = Unmatched::Path;
        for (index, route) in self.routes.iter().enumerate() {
            let Some(parameters) = matched(route.template, path, self.ignores_case) else {
                continue;
            };
            if route.method == *method {
                return Ok(Found { index, route, parameters });
            }
            unmatched = Unmatched::Method;
        }
        Err(unmatched)
    }
}

/// The parameters of a path, if it fits the template.
fn matched(template: &'static str, path: &str, ignores_case: bool) -> Option<Parameters> {
    let mut parameters = Parameters::new();
    let mut wanted = template.split('/');
    let mut given = path.split('/');
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(parameters),
            (Some(wanted), Some(given)) => segment(wanted, given, ignores_case, &mut parameters)?,
            _ => return None,
        }
    }
}

/// Matches one segment: fixed text, `{name}`, or `{name}` followed by fixed text.
fn segment(
    wanted: &'static str,
    given: &str,
    ignores_case: bool,
    parameters: &mut Parameters,
) -> Option<()> {
    let same = |wanted: &str, given: &str| match ignores_case {
        true => wanted.eq_ignore_ascii_case(given),
        false => wanted == given,
    };
    let Some((name, suffix)) = wanted.strip_prefix('{').and_then(|rest| rest.split_once('}'))
    else {
        return same(wanted, given).then_some(());
    };
    let value_length = given.len().checked_sub(suffix.len())?;
    let (value, end) = given.split_at_checked(value_length)?;
    if value.is_empty() || !same(suffix, end) {
        return None;
    }
    // Text that is not UTF-8 names nothing.
    let value = percent_decode_str(value).decode_utf8().ok()?;
    parameters.push((name, Cow::into_owned(value)));
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        check("/v2/models/{model}/infer", "/v2/models/a/infer", Some(&[("model", "a")]));
        check("/v2/models/{model}/infer", "/v2/models//infer", None);
        check("/v2/models/{model}/infer", "/v2/models/a/infer/", None);
        check("/v2/models/{model}/infer", "/V2/models/a/infer", None);
        check("/v2/models/{model}", "/v2/models/my%20model", Some(&[("model", "my model")]));
        check("/v2/models/{model}", "/v2/models/..%2fetc", Some(&[("model", "../etc")]));
        check("/v2/models/{model}", "/v2/models/%ff", None);
        check("/v2/models/{model}", "/v2/models/100%", Some(&[("model", "100%")]));
        let versions = "/v1/models/{model}/versions/{version}:predict";
        let both: &[(&str, &str)] = &[("model", "m"), ("version", "3")];
        check(versions, "/v1/models/m/versions/3:predict", Some(both));
        check(versions, "/v1/models/m/versions/3:classify", None);
        check(versions, "/v1/models/m/versions/:predict", None);
        check(versions, "/v1/models/m/versions/3é", None);
        assert!(matched("/v1/{model}:predict", "/V1/M:PREDICT", true).is_some());
    }

    #[track_caller]
    fn check(template: &'static str, path: &str, expected: Option<&[(&str, &str)]>) {
        let found = matched(template, path, false);
        let found: Option<Vec<(&str, &str)>> = found.as_ref().map(|parameters| {
            parameters.iter().map(|(name, value)| (*name, value.as_str())).collect()
        });
        assert_eq!(found.as_deref(), expected, "{template} {path}");
    }
}
