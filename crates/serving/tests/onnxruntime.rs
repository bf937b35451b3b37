//! The ONNX Runtime engine against the real library.

use trainyard_serving::engine::{EnginePreference, SessionOptions, choose};
use trainyard_serving::{DataType, Tensor};

#[test]
fn iris() {
    for preference in [EnginePreference::OnnxRuntime] {
        let engine = choose(preference).unwrap().engine;
        println!("{:?}", engine.info());
        let model =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/iris/model.onnx");
        let session = engine.load(&model, &SessionOptions::default()).unwrap();
        println!("{:?}", session.signature());
        let input = Tensor::from_vec(
            DataType::Fp32,
            [2, 4].into_iter().collect(),
            vec![5.1f32, 3.5, 1.4, 0.2, 6.7, 3.0, 5.2, 2.3],
        )
        .unwrap();
        println!("{:?}", session.run(&[Some(&input)], &[0, 1]).unwrap());
    }
}
