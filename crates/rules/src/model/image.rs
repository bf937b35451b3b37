//! Names of container images.

/// An image's name in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image<'b> {
    /// As written.
    pub text: &'b str,
    /// Without registry, tag and digest: `vllm/vllm-openai`.
    pub repository: &'b str,
    /// The registry's host, if one is written.
    pub registry: Option<&'b str>,
    pub tag: Option<&'b str>,
    pub digest: Option<&'b str>,
}

impl<'b> Image<'b> {
    /// The parts of a name; `None` for what stands for a name that comes later (`$(IMAGE)`,
    /// `<your-image>`, an empty text).
    #[must_use]
    pub fn parse(text: &'b str) -> Option<Self> {
        let odd = |c: char| !(c.is_ascii_alphanumeric() || "._-/:@+".contains(c));
        if text.is_empty() || text.contains(odd) {
            return None;
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        let last = rest.rfind('/').map_or(0, |at| at + 1);
        let (path, tag) = match rest.get(last..)?.find(':') {
            Some(at) => (rest.get(..last + at)?, rest.get(last + at + 1..)),
            None => (rest, None),
        };
        // As Docker tells a registry from a folder.
        let (registry, repository) = match path.split_once('/') {
            Some((host, repository)) if host.contains(['.', ':']) || host == "localhost" => {
                (Some(host), repository)
            }
            _ => (None, path),
        };
        Some(Self { text, repository, registry, tag, digest })
    }

    /// What is written without tag and digest: `ghcr.io/a/b` of `ghcr.io/a/b:v1`.
    #[must_use]
    pub fn name(&self) -> &'b str {
        let end = self.text.find('@').unwrap_or(self.text.len());
        let name = self.text.get(..end).unwrap_or_default();
        match self.tag {
            Some(tag) => name.get(..name.len() - tag.len() - 1).unwrap_or(name),
            None => name,
        }
    }

    /// The last part of the repository: `vllm-openai`.
    #[must_use]
    pub fn short_name(&self) -> &'b str {
        self.repository.rsplit('/').next().unwrap_or_default()
    }

    /// Numbers at the start of the tag, `v` and `v1-` skipped: `[0, 14, 0]` of `v0.14.0-ubi8`.
    #[must_use]
    pub fn version(&self) -> Option<Vec<u32>> {
        version(self.tag?)
    }
}

/// Numbers at the start of a text such as `v0.14.0-rc.1`; `None` if it starts with none.
pub(crate) fn version(text: &str) -> Option<Vec<u32>> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let numbers: Option<Vec<u32>> =
        text.get(..end)?.trim_end_matches('.').split('.').map(|part| part.parse().ok()).collect();
    numbers.filter(|numbers| !numbers.is_empty())
}

/// Whether a pattern with `*` (any text) fits a whole text.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: (Option<&str>, &str, Option<&str>, Option<&str>)) {
        let image = Image::parse(text).unwrap();
        assert_eq!((image.registry, image.repository, image.tag, image.digest), expected);
    }

    #[test]
    fn names() {
        check("nginx", (None, "nginx", None, None));
        check("vllm/vllm-openai:v0.6.3", (None, "vllm/vllm-openai", Some("v0.6.3"), None));
        check(
            "nvcr.io/nvidia/k8s-device-plugin:v0.14.0",
            (Some("nvcr.io"), "nvidia/k8s-device-plugin", Some("v0.14.0"), None),
        );
        check("localhost:5000/a/b", (Some("localhost:5000"), "a/b", None, None));
        check("a@sha256:00", (None, "a", None, Some("sha256:00")));
        check("r.io/a:1@sha256:00", (Some("r.io"), "a", Some("1"), Some("sha256:00")));
        for text in ["", "$(IMAGE)", "<your image>", "{{ image }}", "a b"] {
            assert_eq!(Image::parse(text), None, "{text}");
        }
    }

    #[test]
    fn versions() {
        let version = |text| Image::parse(text).unwrap().version();
        assert_eq!(version("a:v0.14.0-ubi8"), Some(vec![0, 14, 0]));
        assert_eq!(version("a:24.05-py3"), Some(vec![24, 5]));
        assert_eq!(version("a:latest"), None);
        assert_eq!(version("a"), None);
    }

    #[test]
    fn globs() {
        assert!(glob("vllm/vllm-openai", "vllm/vllm-openai"));
        assert!(!glob("vllm/vllm-openai", "vllm/vllm-openai-x"));
        assert!(glob("*vllm-openai*", "lmcache/vllm-openai-rocm"));
        assert!(glob("a*b*c", "a12b34c") && !glob("a*b*c", "a12c34b"));
        assert!(glob("*", "") && glob("*x", "x"));
        assert!(glob("a*a", "aa") && !glob("a*a", "a"));
    }
}
