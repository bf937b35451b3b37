//! The model that a container loads, and how large it is.

use std::borrow::Cow;

use crate::quantity::Quantity;
use crate::yaml::Node;

use super::container::Container;

/// A model named by a command line, a variable or a storage URI.
#[derive(Debug, Clone)]
pub struct Weights<'b> {
    /// As written: `meta-llama/Llama-3.1-70B-Instruct`, a path or a URI.
    pub id: Cow<'b, str>,
    pub node: Node<'b>,
    /// Parameters in all, where the name tells (`70B`, `8x7B`).
    pub parameters: Option<f64>,
    pub precision: Precision,
}

/// How a parameter is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    Bits4,
    Bits8,
    /// 16 bits, which is what is published unless a name or flag says otherwise.
    Bits16,
}

impl Weights<'_> {
    /// Size of the weights in bytes, where the number of parameters is known.
    #[must_use]
    pub fn bytes(&self) -> Option<Quantity> {
        let per_parameter = match self.precision {
            // Scales and zero points add about a tenth.
            Precision::Bits4 => 0.55,
            Precision::Bits8 => 1.0,
            Precision::Bits16 => 2.0,
        };
        let bytes = self.parameters? * per_parameter;
        Some(Quantity::gibibytes(bytes / f64::from(1 << 30)))
    }

    /// Whether it is a name on a model hub (`owner/name`) rather than a path or a URI.
    #[must_use]
    pub fn is_hub_id(&self) -> bool {
        hub_id(&self.id).is_some()
    }

    /// The name on a model hub, without `hf://` in front.
    #[must_use]
    pub fn hub_id(&self) -> Option<&str> {
        hub_id(&self.id)
    }
}

fn hub_id(id: &str) -> Option<&str> {
    let name = id.strip_prefix("hf://").unwrap_or(id);
    let name = name.split([':', '@']).next()?;
    let (owner, model) = name.split_once('/')?;
    let plain = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    (plain(owner) && plain(model)).then_some(name)
}

/// Flags and variables that name a model for the servers in `frameworks.json`.
const FLAGS: [&str; 6] =
    ["--model", "--model-path", "--model-id", "--model_id", "--model-name-or-path", "--model_dir"];
const VARIABLES: [&str; 5] = ["MODEL_ID", "MODEL_NAME", "MODEL_PATH", "HF_MODEL_ID", "MODEL"];

pub(super) fn of<'b>(container: &Container<'b>) -> Option<Weights<'b>> {
    let (id, node) = named(container)?;
    let (parameters, from_name) = (parameters(&id), precision(&id));
    let flag = container
        .flag(&["--quantization", "-q", "--quantize", "--load-format"])
        .and_then(|flag| flag.value)
        .and_then(|value| precision(&value));
    let precision = from_name.or(flag).unwrap_or(Precision::Bits16);
    Some(Weights { id, node, parameters, precision })
}

fn named<'b>(container: &Container<'b>) -> Option<(Cow<'b, str>, Node<'b>)> {
    if let Some(word) = container.after_command("vllm serve").and_then(<[_]>::first)
        && !super::args::is_flag(&word.text)
        && let Some(id) = container.resolve(word.text.clone())
    {
        return Some((id, word.node));
    }
    for name in FLAGS {
        if let Some(flag) = container.flag(&[name])
            && let Some(value) = flag.value
        {
            return Some((value, flag.node));
        }
    }
    let uri = container.node.get("storageUri");
    if let Some(text) = uri.text() {
        return Some((Cow::Borrowed(text), uri));
    }
    // Clients name the model that they ask for in variables too.
    if container.framework.is_none() && !container.has_accelerator() {
        return None;
    }
    for name in VARIABLES {
        if let Some(value) = container.env_value(name)
            && let Some(env) = container.env(name)
            && hub_id(&value).is_some()
        {
            return Some((value, env.value));
        }
    }
    None
}

/// Parameters that a name tells: `70B`, `1.5b`, `8x7B` (experts share about an eighth).
#[must_use]
pub(super) fn parameters(name: &str) -> Option<f64> {
    let lower = name.rsplit('/').next()?.to_ascii_lowercase();
    let bytes = lower.as_bytes();
    let mut best: Option<f64> = None;
    for (at, _) in lower.match_indices(['b', 'm']) {
        let unit = if bytes.get(at) == Some(&b'b') { 1e9 } else { 1e6 };
        // A whole word: `70b-instruct`, not `7beta`; `a3b` counts active parameters only.
        if bytes.get(at + 1).is_some_and(u8::is_ascii_alphanumeric) {
            continue;
        }
        let start = lower
            .get(..at)?
            .rfind(|c: char| !c.is_ascii_digit() && c != '.')
            .map_or(0, |before| before + 1);
        let Ok(number) = lower.get(start..at)?.parse::<f64>() else { continue };
        let before = start.checked_sub(1).and_then(|at| bytes.get(at)).copied();
        let count = match before {
            None | Some(b'-' | b'_' | b'.' | b':') => number * unit,
            Some(b'x') => {
                let experts = lower.get(..start - 1)?;
                let from =
                    experts.rfind(|c: char| !c.is_ascii_digit()).map_or(0, |before| before + 1);
                let Ok(experts) = experts.get(from..)?.parse::<f64>() else { continue };
                // Mixtral 8x7B has 46.7e9, 8x22B 141e9: experts times size times 0.82.
                experts * number * unit * 0.82
            }
            Some(_) => continue,
        };
        // Beyond this it is a version or a date.
        if (1e7..=3e12).contains(&count) {
            best = Some(best.map_or(count, |best| best.max(count)));
        }
    }
    best
}

fn precision(text: &str) -> Option<Precision> {
    let lower = text.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if has(&["awq", "gptq", "int4", "4bit", "w4a16", "nf4", "fp4", "q4_", "bitsandbytes", "bnb"]) {
        Some(Precision::Bits4)
    } else if has(&["fp8", "int8", "8bit", "w8a8", "w8a16", "q8_", "eetq"]) {
        Some(Precision::Bits8)
    } else {
        None
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn parameters_in_names() {
        for (name, expected) in [
            ("meta-llama/Llama-3.1-70B-Instruct", Some(70e9)),
            ("Qwen/Qwen2.5-1.5B", Some(1.5e9)),
            ("google/gemma-2b-it", Some(2e9)),
            ("facebook/opt-125m", Some(125e6)),
            ("mistralai/Mixtral-8x7B-Instruct-v0.1", Some(8.0 * 7e9 * 0.82)),
            ("Qwen/Qwen3-30B-A3B", Some(30e9)),
            ("deepseek-ai/DeepSeek-R1", None),
            ("bigscience/bloom", None),
            ("openai/gpt-oss-120b", Some(120e9)),
            ("a/model-v2", None),
            ("HuggingFaceH4/zephyr-7b-beta", Some(7e9)),
        ] {
            assert_eq!(parameters(name), expected, "{name}");
        }
    }

    #[test]
    fn names_on_hubs() {
        assert_eq!(hub_id("meta-llama/Llama-3.1-8B"), Some("meta-llama/Llama-3.1-8B"));
        assert_eq!(hub_id("hf://a/b:main"), Some("a/b"));
        for id in ["/models/a", "s3://a/b", "./a/b", "llama3", "a/b/c", "gs://x", "pvc://a/b"] {
            assert_eq!(hub_id(id), None, "{id}");
        }
    }
}
