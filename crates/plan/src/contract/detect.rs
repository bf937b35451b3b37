//! Which software a `custom` runtime is, from its image and command: `data/lint/frameworks.json`, by
//! which the linter tells it too.

use std::sync::LazyLock;

use serde::Deserialize;

use super::table::Framework;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Known {
    kind: String,
    #[serde(default)]
    images: Vec<String>,
    #[serde(default)]
    not_images: Vec<String>,
    #[serde(default)]
    commands: Vec<String>,
}

static TABLE: LazyLock<Vec<Known>> = LazyLock::new(|| {
    #[derive(Deserialize)]
    struct File {
        frameworks: Vec<Known>,
    }
    let text = include_str!("../../../../data/lint/frameworks.json");
    let file: File = serde_json::from_str(text).expect("a test reads the table");
    file.frameworks
});

/// The software that a command or else an image is known to be, if it has knobs of its own.
pub(super) fn detect(
    image: Option<&str>,
    command: &[String],
    args: &[String],
) -> Option<Framework> {
    let words: Vec<&str> =
        command.iter().chain(args).flat_map(|text| text.split_whitespace()).collect();
    let runs = |known: &&Known| known.commands.iter().any(|it| follows(&words, it));
    let repository = image.map(repository);
    let is = |known: &&Known| {
        repository.is_some_and(|name| {
            known.images.iter().any(|pattern| glob(pattern, name))
                && !known.not_images.iter().any(|pattern| glob(pattern, name))
        })
    };
    let known = TABLE.iter().find(runs).or_else(|| {
        // An image made for one server but told to run something else may be anything.
        TABLE.iter().find(is).filter(|_| command.is_empty())
    })?;
    serde_json::from_value(serde_json::Value::String(known.kind.clone())).ok()
}

/// Whether the words of a command follow one another; the first may have a path before it.
fn follows(words: &[&str], command: &str) -> bool {
    let command: Vec<&str> = command.split(' ').collect();
    words.windows(command.len()).any(|window| {
        window.iter().zip(&command).enumerate().all(|(at, (word, part))| {
            let name = if at == 0 { word.rsplit('/').next().unwrap_or(word) } else { word };
            name == *part
        })
    })
}

/// An image's name without registry, tag and digest.
fn repository(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or(image);
    let name = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    };
    match name.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => rest,
        _ => name,
    }
}

/// Whether a pattern, in which `*` stands for any text, fits.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[test]
fn software_by_its_image_and_command() {
    #[track_caller]
    fn check(image: &str, command: &[&str], expected: Option<Framework>) {
        let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        assert_eq!(detect(Some(image), &command, &[]), expected, "{image} {command:?}");
    }
    check("vllm/vllm-openai:v0.10.0", &[], Some(Framework::Vllm));
    check("docker.io/vllm/vllm-openai@sha256:00", &[], Some(Framework::Vllm));
    check("localhost:5000/a/vllm-openai", &[], Some(Framework::Vllm));
    check("lmsysorg/sglang:latest", &[], Some(Framework::Sglang));
    check("lmsysorg/sglang-router", &[], None);
    check("ghcr.io/huggingface/text-generation-inference:3.0", &[], Some(Framework::Tgi));
    check("nvcr.io/nvidia/tritonserver:25.01-py3", &[], Some(Framework::Triton));
    check("a", &["sh", "-c", "exec vllm serve /m --port 1"], Some(Framework::Vllm));
    check("a", &["python3", "-m", "sglang.launch_server"], Some(Framework::Sglang));
    check("a", &["/usr/bin/tensorflow_model_server"], Some(Framework::TensorflowServing));
    check("vllm/vllm-openai", &["python3", "my.py"], None);
    check("ollama/ollama", &[], None);
    check("a", &[], None);
}
