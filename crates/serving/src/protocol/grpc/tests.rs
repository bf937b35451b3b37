//! The services, called through the generated clients on a server with the built-in engine. Wire
//! format and routing are real; only the connection is left out.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use prost::Message;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request};

use super::health_v1::HealthCheckRequest;
use super::health_v1::health_client::HealthClient;
use super::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use super::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use super::inference::{
    InferParameter, InferTensorContents, ModelConfigRequest, ModelInferRequest,
    ModelMetadataRequest, ModelReadyRequest, ModelStatisticsRequest, ServerLiveRequest,
    ServerReadyRequest, infer_parameter,
};
use super::tensorflow::serving::model_service_client::ModelServiceClient;
use super::tensorflow::serving::prediction_service_client::PredictionServiceClient;
use super::tensorflow::serving::*;
use super::tensorflow::{
    DataType, Example, Feature, Features, FloatList, TensorProto, TensorShapeProto, feature,
    tensor_shape_proto,
};
use super::{Grpc, GrpcOptions};
use crate::Server;
use crate::onnx::fixtures;
use crate::server::ModelControl;
use crate::shared_memory::SharedMemory;

/// A server with models `simple` (versions 1 and 3) and `scores`, and its services.
struct Running {
    grpc: Grpc,
    server: Server,
    _repository: tempfile::TempDir,
    stop: CancellationToken,
}

async fn start() -> Running {
    let repository = tempfile::tempdir().expect("a folder");
    let root = repository.path();
    for version in ["1", "2", "3"] {
        write(
            &root.join("simple").join(version).join("model.onnx"),
            fixtures::sum_and_difference(),
        );
    }
    let policy = "max_batch_size: 8 version_policy { specific { versions: [1, 3] } }";
    write(&root.join("simple/config.pbtxt"), policy.as_bytes().to_vec());
    write(&root.join("scores/1/model.onnx"), fixtures::identity(fixtures::FLOAT));
    write(&root.join("scores/labels.txt"), b"no\nyes\n".to_vec());
    let labels = r#"output [ { name: "y" data_type: TYPE_FP32 dims: [ -1, -1 ]
                    label_filename: "labels.txt" } ]"#;
    write(&root.join("scores/config.pbtxt"), labels.as_bytes().to_vec());

    let load = vec!["simple".to_owned(), "scores".to_owned()];
    let server = Server::on_tract(vec![root.to_owned()], ModelControl::Explicit { load }).await;
    let options = GrpcOptions {
        server_name: "trainyard".to_owned(),
        max_message_bytes: 1 << 20,
        shared_memory: SharedMemory::default(),
        stop: CancellationToken::new(),
    };
    let grpc = Grpc::new(&server, &options);
    Running { grpc, server, stop: options.stop, _repository: repository }
}

fn write(path: &Path, content: Vec<u8>) {
    fs::create_dir_all(path.parent().expect("has one")).expect("can be made");
    fs::write(path, content).expect("can be written");
}

fn spec(model: &str) -> Option<ModelSpec> {
    Some(ModelSpec { name: model.to_owned(), ..ModelSpec::default() })
}

fn ints(shape: &[i64], values: &[i32]) -> TensorProto {
    let dim = |size: &i64| tensor_shape_proto::Dim { size: *size, name: String::new() };
    let shape = TensorShapeProto { dim: shape.iter().map(dim).collect(), unknown_rank: false };
    TensorProto {
        dtype: DataType::DtInt32.into(),
        tensor_shape: Some(shape),
        int_val: values.to_vec(),
        ..TensorProto::default()
    }
}

fn predict(first: TensorProto, second: TensorProto) -> PredictRequest {
    let inputs = [("INPUT0".to_owned(), first), ("INPUT1".to_owned(), second)];
    PredictRequest { model_spec: spec("simple"), inputs: inputs.into(), output_filter: Vec::new() }
}

#[tokio::test]
async fn predict_answers_typed_lists_and_the_version() {
    let running = start().await;
    let mut client = PredictionServiceClient::new(running.grpc.clone());

    let request = predict(ints(&[1, 4], &[1, 2, 3, 4]), ints(&[1, 4], &[10]));
    let answer = client.predict(request).await.expect("predicts");
    assert!(answer.metadata().contains_key("x-trainyard-batch-size"));
    let answer = answer.into_inner();
    assert_eq!(answer.outputs["OUTPUT0"].int_val, [11, 12, 13, 14]);
    assert_eq!(answer.outputs["OUTPUT1"].int_val, [-9, -8, -7, -6]);
    let found = answer.model_spec.expect("given");
    assert_eq!(found.version_choice, Some(model_spec::VersionChoice::Version(3)));
    assert_eq!((found.name.as_str(), found.signature_name.as_str()), ("simple", "serving_default"));

    let mut request = predict(ints(&[1, 4], &[5]), ints(&[1, 4], &[5]));
    request.output_filter = vec!["OUTPUT1".to_owned()];
    request.model_spec.as_mut().expect("given").version_choice =
        Some(model_spec::VersionChoice::Version(1));
    let answer = client.predict(request).await.expect("predicts").into_inner();
    assert_eq!(answer.outputs.keys().collect::<Vec<_>>(), ["OUTPUT1"]);
    assert_eq!(answer.outputs["OUTPUT1"].int_val, [0; 4]);
    running.server.shutdown().await;
}

#[tokio::test]
async fn predict_says_what_is_wrong() {
    let running = start().await;
    let mut client = PredictionServiceClient::new(running.grpc.clone());
    let good = || predict(ints(&[1, 4], &[5]), ints(&[1, 4], &[5]));
    let for_model = |name: &str| PredictRequest { model_spec: spec(name), ..good() };
    let for_version = |choice| {
        let mut request = good();
        request.model_spec.as_mut().expect("given").version_choice = Some(choice);
        request
    };
    let without = |name: &str| {
        let mut request = good();
        request.inputs.remove(name);
        request
    };
    let filtered = PredictRequest { output_filter: vec!["nosuch".to_owned()], ..good() };
    let bomb = predict(ints(&[1, 1 << 40], &[5]), ints(&[1, 4], &[5]));
    let label = model_spec::VersionChoice::VersionLabel("canary".to_owned());
    for (request, code, part) in [
        (for_model("half"), Code::NotFound, "Servable not found for request: Latest(half)"),
        (
            for_version(model_spec::VersionChoice::Version(2)),
            Code::NotFound,
            "Servable not found for request: Specific(simple, 2)",
        ),
        (for_version(label), Code::NotFound, "Unrecognized servable version label: canary"),
        (without("INPUT1"), Code::InvalidArgument, "INPUT1"),
        (filtered, Code::InvalidArgument, "nosuch"),
        (predict(ints(&[1, 3], &[5]), ints(&[1, 4], &[5])), Code::InvalidArgument, "INPUT0"),
        (bomb, Code::ResourceExhausted, "larger than the limit"),
        (PredictRequest { model_spec: None, ..good() }, Code::InvalidArgument, "ModelSpec"),
    ] {
        let status = client.predict(request).await.expect_err(part);
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(part), "{status}");
    }
    running.server.shutdown().await;
}

fn example(name: &str, values: &[f32]) -> Example {
    let kind = feature::Kind::FloatList(FloatList { value: values.to_vec() });
    let feature = BTreeMap::from([(name.to_owned(), Feature { kind: Some(kind) })]);
    Example { features: Some(Features { feature }) }
}

fn examples(examples: Vec<Example>) -> Option<Input> {
    Some(Input { kind: Some(input::Kind::ExampleList(ExampleList { examples })) })
}

#[tokio::test]
async fn classify_and_regress_examples() {
    let running = start().await;
    let mut client = PredictionServiceClient::new(running.grpc.clone());

    let input = examples(vec![example("x", &[0.25, 0.75]), example("x", &[1.0, 0.0])]);
    let request = ClassificationRequest { model_spec: spec("scores"), input };
    let answer = client.classify(request).await.expect("classifies").into_inner();
    let rows = answer.result.expect("given").classifications;
    let classes: Vec<Vec<(&str, f32)>> = rows
        .iter()
        .map(|row| row.classes.iter().map(|class| (class.label.as_str(), class.score)).collect())
        .collect();
    assert_eq!(classes, [[("no", 0.25), ("yes", 0.75)], [("no", 1.0), ("yes", 0.0)]]);
    let version = answer.model_spec.expect("given").version_choice;
    assert_eq!(version, Some(model_spec::VersionChoice::Version(1)));

    let one = || examples(vec![example("x", &[0.5]), example("x", &[2.0])]);
    let request = RegressionRequest { model_spec: spec("scores"), input: one() };
    let answer = client.regress(request).await.expect("regresses").into_inner();
    let values: Vec<f32> =
        answer.result.expect("given").regressions.iter().map(|one| one.value).collect();
    assert_eq!(values, [0.5, 2.0]);

    let task = |method: &str| InferenceTask {
        model_spec: spec("scores"),
        method_name: format!("tensorflow/serving/{method}"),
    };
    let tasks = vec![task("classify"), task("regress")];
    let request = MultiInferenceRequest { tasks: tasks.clone(), input: one() };
    let answer = client.multi_inference(request).await.expect("runs both").into_inner();
    assert!(matches!(
        answer.results[0].result,
        Some(inference_result::Result::ClassificationResult(_))
    ));
    assert!(matches!(
        answer.results[1].result,
        Some(inference_result::Result::RegressionResult(_))
    ));

    for (tasks, input, code, part) in [
        (vec![], one(), Code::InvalidArgument, "no tasks"),
        (vec![task("classify"); 2], one(), Code::InvalidArgument, "Duplicate evaluation"),
        (vec![task("predict")], one(), Code::Unimplemented, "tensorflow/serving/predict"),
        (tasks, examples(vec![]), Code::InvalidArgument, "Input is empty"),
    ] {
        let request = MultiInferenceRequest { tasks, input };
        let status = client.multi_inference(request).await.expect_err(part);
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(part), "{status}");
    }

    let request = ClassificationRequest {
        model_spec: spec("simple"),
        input: examples(vec![example("INPUT0", &[1.0])]),
    };
    let status = client.classify(request).await.expect_err("no scores");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("'OUTPUT0' INT32"), "{status}");
    running.server.shutdown().await;
}

#[tokio::test]
async fn metadata_and_status() {
    let running = start().await;
    let mut client = PredictionServiceClient::new(running.grpc.clone());
    let request = |fields: &[&str]| GetModelMetadataRequest {
        model_spec: spec("simple"),
        metadata_field: fields.iter().map(|field| (*field).to_owned()).collect(),
    };
    let answer = client.get_model_metadata(request(&["signature_def"])).await.expect("known");
    let packed = &answer.get_ref().metadata["signature_def"];
    assert_eq!(packed.type_url, "type.googleapis.com/tensorflow.serving.SignatureDefMap");
    let map = SignatureDefMap::decode(packed.value.as_slice()).expect("unpacks");
    assert_eq!(map.signature_def["serving_default"].inputs.len(), 2);
    for fields in [&[][..], &["other"]] {
        let status = client.get_model_metadata(request(fields)).await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }

    let mut client = ModelServiceClient::new(running.grpc.clone());
    let request = |model| GetModelStatusRequest { model_spec: spec(model) };
    let answer = client.get_model_status(request("simple")).await.expect("known").into_inner();
    let available: Vec<i64> = answer
        .model_version_status
        .iter()
        .filter(|one| one.state() == model_version_status::State::Available)
        .map(|one| one.version)
        .collect();
    assert_eq!(available, [3, 1]);
    let status = client.get_model_status(request("nosuch")).await.expect_err("unknown");
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(status.message(), "Could not find any versions of model nosuch");
    running.server.shutdown().await;
}

#[tokio::test]
async fn reload_chooses_among_the_models_of_the_repository() {
    let running = start().await;
    let mut client = ModelServiceClient::new(running.grpc.clone());
    let config = |name: &str, base_path: &str| ModelConfig {
        name: name.to_owned(),
        base_path: base_path.to_owned(),
        ..ModelConfig::default()
    };
    let request = |config| ReloadConfigRequest {
        config: Some(ModelServerConfig {
            config: Some(model_server_config::Config::ModelConfigList(ModelConfigList { config })),
        }),
        metric_names: Vec::new(),
    };
    let serving = || -> Vec<bool> {
        let ready = |model: &str| running.server.metadata(model, &Default::default()).is_ok();
        vec![ready("simple"), ready("scores")]
    };

    for refused in [config("other", ""), config("simple", "/elsewhere/else")] {
        let status = client
            .handle_reload_config_request(request(vec![refused]))
            .await
            .expect_err("not the repository's");
        assert_eq!(status.code(), Code::Unimplemented, "{status}");
        assert!(status.message().contains("--model-control"), "{status}");
        assert_eq!(serving(), [true, true], "nothing changed");
    }
    let only = request(vec![config("simple", "/models/simple")]);
    client.handle_reload_config_request(only).await.expect("agrees");
    assert_eq!(serving(), [true, false]);
    let both = request(vec![config("simple", ""), config("scores", "")]);
    client.handle_reload_config_request(both).await.expect("agrees");
    assert_eq!(serving(), [true, true]);
    running.server.shutdown().await;
}

fn infer(model: &str, id: &str) -> ModelInferRequest {
    let input = |name: &str| InferInputTensor {
        name: name.to_owned(),
        datatype: "INT32".to_owned(),
        shape: vec![1, 4],
        ..InferInputTensor::default()
    };
    let raw = |values: [i32; 4]| Bytes::from(values.map(i32::to_le_bytes).concat());
    ModelInferRequest {
        model_name: model.to_owned(),
        id: id.to_owned(),
        inputs: vec![input("INPUT0"), input("INPUT1")],
        raw_input_contents: vec![raw([1, 2, 3, 4]), raw([10, 10, 10, 10])],
        ..ModelInferRequest::default()
    }
}

#[tokio::test]
async fn a_server_that_drains_is_live_but_not_ready() {
    let running = start().await;
    let mut client = GrpcInferenceServiceClient::new(running.grpc.clone());
    assert!(client.server_ready(ServerReadyRequest {}).await.expect("answers").into_inner().ready);
    running.stop.cancel();
    assert!(!client.server_ready(ServerReadyRequest {}).await.expect("answers").into_inner().ready);
    assert!(client.server_live(ServerLiveRequest {}).await.expect("answers").into_inner().live);
}

#[tokio::test]
async fn inference_answers_raw_contents() {
    let running = start().await;
    let mut client = GrpcInferenceServiceClient::new(running.grpc.clone());
    let raw = |values: [i32; 4]| Bytes::from(values.map(i32::to_le_bytes).concat());

    let answer = client.model_infer(infer("simple", "7")).await.expect("infers");
    assert!(answer.metadata().contains_key("x-trainyard-queue-us"));
    let answer = answer.into_inner();
    assert_eq!((answer.id.as_str(), answer.model_version.as_str()), ("7", "3"));
    let names: Vec<&str> = answer.outputs.iter().map(|output| output.name.as_str()).collect();
    assert_eq!(names, ["OUTPUT0", "OUTPUT1"]);
    let [sum, difference] = answer.raw_output_contents.as_slice() else { panic!("two outputs") };
    assert_eq!((sum, difference), (&raw([11, 12, 13, 14]), &raw([-9, -8, -7, -6])));
    assert!(answer.outputs.iter().all(|output| output.contents.is_none()));

    let mut typed = infer("simple", "");
    typed.raw_input_contents.clear();
    for input in &mut typed.inputs {
        let contents = InferTensorContents { int_contents: vec![1; 4], ..Default::default() };
        input.contents = Some(contents);
    }
    typed.outputs =
        vec![InferRequestedOutputTensor { name: "OUTPUT0".to_owned(), ..Default::default() }];
    let answer = client.model_infer(typed).await.expect("infers").into_inner();
    assert_eq!(answer.raw_output_contents, [raw([2; 4])]);

    let status = client.model_infer(infer("nosuch", "")).await.expect_err("unknown");
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(status.message(), "Request for unknown model: 'nosuch' is not found");
    let mut one = infer("simple", "");
    one.inputs.pop();
    one.raw_input_contents.pop();
    let status = client.model_infer(one).await.expect_err("one input is missing");
    assert_eq!(status.code(), Code::InvalidArgument);
    running.server.shutdown().await;
}

#[tokio::test]
async fn an_output_can_be_reduced_to_classes() {
    let running = start().await;
    let mut client = GrpcInferenceServiceClient::new(running.grpc.clone());
    let choice = infer_parameter::ParameterChoice::Int64Param(1);
    let parameter = InferParameter { parameter_choice: Some(choice) };
    let request = ModelInferRequest {
        model_name: "scores".to_owned(),
        inputs: vec![InferInputTensor {
            name: "x".to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![1, 2],
            ..InferInputTensor::default()
        }],
        outputs: vec![InferRequestedOutputTensor {
            name: "y".to_owned(),
            parameters: BTreeMap::from([("classification".to_owned(), parameter)]),
        }],
        raw_input_contents: vec![Bytes::from([0.25f32, 0.75].map(f32::to_le_bytes).concat())],
        ..ModelInferRequest::default()
    };
    let answer = client.model_infer(request).await.expect("infers").into_inner();
    assert_eq!(answer.outputs[0].datatype, "BYTES");
    let text = &answer.raw_output_contents[0][4..];
    assert_eq!(text, b"0.750000:1:yes");
    running.server.shutdown().await;
}

#[tokio::test]
async fn a_stream_goes_on_after_an_error() {
    let running = start().await;
    let mut client = GrpcInferenceServiceClient::new(running.grpc.clone());
    let requests = (0..20)
        .map(|number| infer(if number == 7 { "nosuch" } else { "simple" }, &number.to_string()));
    let requests: Vec<ModelInferRequest> = requests.collect();
    let answers = client.model_stream_infer(stream::iter(requests)).await.expect("opens");
    let answers: Vec<_> = answers.into_inner().collect().await;
    let mut failed = Vec::new();
    let mut ids: Vec<u32> = answers
        .into_iter()
        .map(|answer| {
            let answer = answer.expect("stays open");
            let response = answer.infer_response.expect("given");
            if !answer.error_message.is_empty() {
                failed.push((response.id.clone(), answer.error_message));
            }
            response.id.parse().expect("a number")
        })
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..20).collect::<Vec<_>>());
    let [(id, message)] = failed.as_slice() else { panic!("{failed:?}") };
    assert!(id == "7" && message.contains("nosuch"), "{failed:?}");
    running.server.shutdown().await;
}

#[tokio::test]
async fn models_and_server_describe_themselves() {
    let running = start().await;
    let mut client = GrpcInferenceServiceClient::new(running.grpc.clone());
    let named = |name: &str, version: &str| ModelReadyRequest {
        name: name.to_owned(),
        version: version.to_owned(),
    };
    for (name, version, expected) in
        [("simple", "", true), ("simple", "1", true), ("simple", "2", false), ("nosuch", "", false)]
    {
        let ready = client.model_ready(named(name, version)).await.expect("answers").into_inner();
        assert_eq!(ready.ready, expected, "{name} {version}");
    }
    let request = ModelMetadataRequest { name: "simple".to_owned(), version: String::new() };
    let metadata = client.model_metadata(request).await.expect("known").into_inner();
    assert_eq!(metadata.versions, ["1", "3"]);
    assert_eq!(metadata.inputs[0].shape, [-1, 4]);
    let request = ModelConfigRequest { name: "simple".to_owned(), version: String::new() };
    let config = client.model_config(request).await.expect("known").into_inner().config;
    let config = config.expect("given");
    assert_eq!((config.max_batch_size, config.input[0].dims.as_slice()), (8, &[4][..]));

    client.model_infer(infer("simple", "")).await.expect("infers");
    let request = ModelStatisticsRequest { name: "simple".to_owned(), version: "3".to_owned() };
    let statistics = client.model_statistics(request).await.expect("known").into_inner();
    assert_eq!(statistics.model_stats[0].inference_count, 1);

    let mut health = HealthClient::new(running.grpc.clone());
    let check = |service: &str| Request::new(HealthCheckRequest { service: service.to_owned() });
    for service in ["", "inference.GRPCInferenceService", "tensorflow.serving.PredictionService"] {
        let answer = health.check(check(service)).await.expect("known").into_inner();
        assert_eq!(answer.status, 1, "{service} serves");
    }
    let status = health.check(check("nosuch")).await.expect_err("unknown");
    assert_eq!(status.code(), Code::NotFound);
    running.server.shutdown().await;
    let answer = health.check(check("")).await.expect("known").into_inner();
    assert_eq!(answer.status, 2, "it no longer serves");
}
