//! Where a model comes from: `file://`, `pvc://`, `s3://`, `gs://`, `az://`, `https://`, `oci://`,
//! `mlflow://`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::{ScalarError, ScalarKind, string_scalar};

/// The place of a model.
///
/// Paths and keys are taken literally, with no percent-decoding, as KServe and the cloud tools do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ModelUri {
    /// `file:///models/iris` (absolute) or `file://./iris`, `file://../iris` (relative to the
    /// folder of the manifest that says it).
    File(PathBuf),
    /// `pvc://CLAIM/PATH`: a path in a PersistentVolumeClaim of the service's namespace.
    Pvc { claim: String, path: String },
    /// `s3://BUCKET/KEY`, also for S3-like stores.
    S3 { bucket: String, key: String },
    /// `gs://BUCKET/KEY`.
    Gs { bucket: String, key: String },
    /// `az://CONTAINER/BLOB`.
    Az { container: String, blob: String },
    /// `https://HOST/PATH`, kept as it was written.
    Https(String),
    /// `oci://REGISTRY/REPOSITORY:TAG` or `@sha256:…`, kept without the scheme.
    Oci(String),
    /// `mlflow://models/NAME@ALIAS` or `mlflow://models/NAME/VERSION`.
    Mlflow { name: String, pointer: MlflowPointer },
}

/// Which version of a registered MLflow model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum MlflowPointer {
    Alias(String),
    Version(u64),
}

/// The scheme of a [`ModelUri`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    File,
    Pvc,
    S3,
    Gs,
    Az,
    Https,
    Oci,
    Mlflow,
}

impl Scheme {
    const ALL: [Self; 8] =
        [Self::File, Self::Pvc, Self::S3, Self::Gs, Self::Az, Self::Https, Self::Oci, Self::Mlflow];

    /// The scheme as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Pvc => "pvc",
            Self::S3 => "s3",
            Self::Gs => "gs",
            Self::Az => "az",
            Self::Https => "https",
            Self::Oci => "oci",
            Self::Mlflow => "mlflow",
        }
    }
}

pub(super) const KIND: ScalarKind = ScalarKind {
    name: "model-uri",
    expected: "a model's place such as `file://./model.onnx` or `s3://bucket/model`",
    check: |text| text.parse::<ModelUri>().map(drop),
    integer_too: false,
    // No control characters (Unicode's category Cc).
    pattern: r"^(file|pvc|s3|gs|az|https|oci|mlflow)://[^\x00-\x1f\x7f-\x9f]+$",
    longest: 2048,
    rules: &[
        (
            r"!self.startsWith('file:') || self.matches('^file://((localhost)?/|[.][.]?(/|$))')",
            "write an absolute path as `file:///models/iris`, or one relative to the manifest's folder as `file://./iris`",
        ),
        (
            r"!self.matches('^(pvc|s3|gs|az):') || self.matches('^[a-z0-9]+://[0-9A-Za-z][0-9A-Za-z._-]*(/|$)')",
            "write `SCHEME://NAME/PATH`, with a claim, bucket or container of letters, digits, `.`, `_` and `-`",
        ),
        (
            r"!self.startsWith('pvc:') || !self.matches('/[.][.](/|$)')",
            "the path leaves the volume with `..`; write it from the root of the volume",
        ),
        (
            r"!self.startsWith('https:') || self.matches('^https://[^/@\\s\\p{Z}]+/[^\\s\\p{Z}]+$')",
            "write `https://HOST/PATH` with spaces as `%20` and no user or password, which go to `credentialsSecret`",
        ),
        (
            r"!self.startsWith('oci:') || self.matches('^oci://[0-9A-Za-z._:@-]+/[0-9A-Za-z._/:@-]+$')",
            "write `oci://REGISTRY/REPOSITORY:TAG` or `oci://REGISTRY/REPOSITORY@sha256:DIGEST`",
        ),
        (
            r"!self.startsWith('mlflow:') || self.matches('^mlflow://models/[^/:@]+(@[^/@]+|/[0-9]{1,19})$')",
            "write `mlflow://models/NAME@ALIAS` or `mlflow://models/NAME/VERSION`",
        ),
    ],
};

string_scalar!(ModelUri, KIND);

const FILE_HELP: &str = "write an absolute path as `file:///models/iris`, or one relative to the manifest's folder as `file://./iris`";

impl ModelUri {
    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        match self {
            Self::File(_) => Scheme::File,
            Self::Pvc { .. } => Scheme::Pvc,
            Self::S3 { .. } => Scheme::S3,
            Self::Gs { .. } => Scheme::Gs,
            Self::Az { .. } => Scheme::Az,
            Self::Https(_) => Scheme::Https,
            Self::Oci(_) => Scheme::Oci,
            Self::Mlflow { .. } => Scheme::Mlflow,
        }
    }

    /// The same place with a relative file path joined to `folder`, the manifest's.
    pub fn relative_to(&self, folder: &Path) -> Self {
        match self {
            Self::File(path) if path.is_relative() => Self::File(folder.join(path)),
            other => other.clone(),
        }
    }
}

impl FromStr for ModelUri {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(ScalarError::new("the uri is empty", FILE_HELP));
        }
        if let Some(bad) = text.chars().find(|c| c.is_control()) {
            return Err(ScalarError::new(
                format!("the uri holds the control character U+{:04X}", u32::from(bad)),
                "remove it",
            ));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(no_scheme(text));
        };
        let Some(scheme) = Scheme::ALL.into_iter().find(|known| known.as_str() == scheme) else {
            return Err(unknown_scheme(text, scheme, rest));
        };
        match scheme {
            Scheme::File => file(text, rest),
            Scheme::Pvc => {
                let (claim, path) = two_parts(text, rest, "pvc://CLAIM/PATH")?;
                if path.split('/').any(|part| part == "..") {
                    return Err(ScalarError::new(
                        format!("`{text}` leaves the volume with `..`"),
                        "write the path from the root of the volume",
                    ));
                }
                Ok(Self::Pvc { claim, path })
            }
            Scheme::S3 => two_parts(text, rest, "s3://BUCKET/KEY")
                .map(|(bucket, key)| Self::S3 { bucket, key }),
            Scheme::Gs => two_parts(text, rest, "gs://BUCKET/KEY")
                .map(|(bucket, key)| Self::Gs { bucket, key }),
            Scheme::Az => two_parts(text, rest, "az://CONTAINER/BLOB")
                .map(|(container, blob)| Self::Az { container, blob }),
            Scheme::Https => https(text, rest),
            Scheme::Oci => oci(text, rest),
            Scheme::Mlflow => mlflow(text, rest),
        }
    }
}

fn no_scheme(text: &str) -> ScalarError {
    let problem = format!("`{text}` has no scheme");
    if text.starts_with('/') {
        return ScalarError::new(problem, format!("write `file://{text}`"));
    }
    let relative = text.strip_prefix("file:").unwrap_or(text);
    let dotted = if relative.starts_with("./") || relative.starts_with("../") { "" } else { "./" };
    ScalarError::new(
        problem,
        format!("for a path relative to the manifest's folder write `file://{dotted}{relative}`"),
    )
}

fn unknown_scheme(text: &str, scheme: &str, rest: &str) -> ScalarError {
    let problem = format!("`{text}` has the unknown scheme `{scheme}`");
    let other = match scheme.to_ascii_lowercase().as_str() {
        "http" => {
            return ScalarError::new(
                format!("`{text}` is plain http, where anybody on the way can change the model"),
                format!("write `https://{rest}`"),
            );
        }
        "gcs" => Some("gs"),
        "s3a" | "s3n" | "minio" => Some("s3"),
        "azure" | "abfs" | "abfss" | "wasb" | "wasbs" => Some("az"),
        "docker" | "docker-image" => Some("oci"),
        "models" => Some("mlflow"),
        lower => Scheme::ALL.into_iter().map(Scheme::as_str).find(|known| *known == lower),
    };
    match other {
        Some(other) => ScalarError::new(problem, format!("did you mean `{other}://`?")),
        None => ScalarError::new(
            problem,
            "use one of file:// pvc:// s3:// gs:// az:// https:// oci:// mlflow://",
        ),
    }
}

fn file(text: &str, rest: &str) -> Result<ModelUri, ScalarError> {
    let path = rest.strip_prefix("localhost/").map(|path| format!("/{path}"));
    let path = path.as_deref().unwrap_or(rest);
    let relative = matches!(path, "." | "..") || path.starts_with("./") || path.starts_with("../");
    if path.starts_with('/') || relative {
        return Ok(ModelUri::File(PathBuf::from(path)));
    }
    let problem = if path.is_empty() {
        format!("`{text}` names no file")
    } else {
        let host = path.split('/').next().unwrap_or(path);
        format!("`{text}` names the host `{host}` and not a path")
    };
    let help = if path.is_empty() {
        FILE_HELP.to_owned()
    } else {
        format!(
            "write `file:///{path}` if the path is absolute, or `file://./{path}` if it is relative to the manifest's folder"
        )
    };
    Err(ScalarError::new(problem, help))
}

/// `FIRST/REST`, where the first part is a bucket, a container or a claim, and `REST` may be empty
/// (the whole of it).
fn two_parts(text: &str, rest: &str, form: &str) -> Result<(String, String), ScalarError> {
    let (first, second) = rest.split_once('/').unwrap_or((rest, ""));
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if first.is_empty() {
        return Err(ScalarError::new(
            format!("`{text}` has nothing after its scheme's `://`"),
            format!("write `{form}`"),
        ));
    }
    if let Some(bad) = first.chars().find(|c| !valid(*c)) {
        return Err(ScalarError::new(
            format!("`{text}`: `{first}` must not hold `{bad}`"),
            format!("write `{form}`"),
        ));
    }
    if !first.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(ScalarError::new(
            format!("`{text}`: `{first}` must start with a letter or a digit"),
            format!("write `{form}`"),
        ));
    }
    Ok((first.to_owned(), second.to_owned()))
}

fn https(text: &str, rest: &str) -> Result<ModelUri, ScalarError> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if authority.is_empty() || path.is_empty() || text.contains(char::is_whitespace) {
        return Err(ScalarError::new(
            format!("`{text}` is not the https address of a file"),
            "write `https://HOST/PATH`, spaces as `%20`",
        ));
    }
    if authority.contains('@') {
        // The text is not repeated: it holds a secret.
        return Err(ScalarError::new(
            "the uri holds a user or a password, which everybody who sees the manifest could read",
            "name a secret in `credentialsSecret` and remove it from the uri",
        ));
    }
    Ok(ModelUri::Https(text.to_owned()))
}

fn oci(text: &str, rest: &str) -> Result<ModelUri, ScalarError> {
    let valid =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '/' | ':' | '@');
    let named =
        rest.split_once('/').is_some_and(|(host, name)| !host.is_empty() && !name.is_empty());
    if !named || !rest.chars().all(valid) {
        return Err(ScalarError::new(
            format!("`{text}` is not an image reference"),
            "write `oci://REGISTRY/REPOSITORY:TAG` or `oci://REGISTRY/REPOSITORY@sha256:DIGEST`",
        ));
    }
    Ok(ModelUri::Oci(rest.to_owned()))
}

fn mlflow(text: &str, rest: &str) -> Result<ModelUri, ScalarError> {
    let wrong = || {
        ScalarError::new(
            format!("`{text}` names no registered model"),
            "write `mlflow://models/NAME@ALIAS` or `mlflow://models/NAME/VERSION`",
        )
    };
    let model = rest.strip_prefix("models/").ok_or_else(wrong)?;
    let (name, pointer) = if let Some((name, alias)) = model.rsplit_once('@') {
        (name, MlflowPointer::Alias(alias.to_owned()))
    } else if let Some((name, version)) = model.rsplit_once('/') {
        // With 19 digits it fits.
        let all_digits =
            (1..=19).contains(&version.len()) && version.bytes().all(|b| b.is_ascii_digit());
        let version = version.parse().ok().filter(|_| all_digits).ok_or_else(wrong)?;
        (name, MlflowPointer::Version(version))
    } else {
        return Err(wrong());
    };
    let empty_alias =
        matches!(&pointer, MlflowPointer::Alias(alias) if alias.is_empty() || alias.contains('/'));
    if name.is_empty() || empty_alias || name.contains(['/', ':', '@']) {
        return Err(wrong());
    }
    Ok(ModelUri::Mlflow { name: name.to_owned(), pointer })
}

impl fmt::Display for ModelUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme().as_str();
        match self {
            Self::File(path) => {
                let path = path.display().to_string();
                let is_dotted = matches!(path.as_str(), "." | "..")
                    || path.starts_with("./")
                    || path.starts_with("../");
                // A path built in code may be relative without a dot.
                let dot = if path.starts_with('/') || is_dotted { "" } else { "./" };
                write!(f, "file://{dot}{path}")
            }
            Self::Pvc { claim: first, path: rest }
            | Self::S3 { bucket: first, key: rest }
            | Self::Gs { bucket: first, key: rest }
            | Self::Az { container: first, blob: rest } => write!(f, "{scheme}://{first}/{rest}"),
            Self::Https(url) => f.write_str(url),
            Self::Oci(reference) => write!(f, "oci://{reference}"),
            Self::Mlflow { name, pointer: MlflowPointer::Alias(alias) } => {
                write!(f, "mlflow://models/{name}@{alias}")
            }
            Self::Mlflow { name, pointer: MlflowPointer::Version(version) } => {
                write!(f, "mlflow://models/{name}/{version}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn accepted(text: &str, printed: &str) {
        let uri: ModelUri = text.parse().unwrap_or_else(|error| panic!("{text}: {error:?}"));
        assert_eq!(uri.to_string(), printed);
        assert_eq!(printed.parse(), Ok(uri));
    }

    #[track_caller]
    fn refused(text: &str, problem: &str, help: &str) {
        let error = text.parse::<ModelUri>().expect_err("refused");
        assert!(error.problem.contains(problem), "{}", error.problem);
        assert!(error.help.contains(help), "{}", error.help);
    }

    #[test]
    fn accepted_table() {
        accepted("file:///models/iris", "file:///models/iris");
        accepted("file://localhost/models/iris", "file:///models/iris");
        accepted("file://./model.onnx", "file://./model.onnx");
        accepted("file://../iris/model.onnx", "file://../iris/model.onnx");
        accepted("file:///my model.onnx", "file:///my model.onnx");
        accepted("pvc://models/iris/1", "pvc://models/iris/1");
        accepted("pvc://models", "pvc://models/");
        accepted("s3://bucket/a/b", "s3://bucket/a/b");
        accepted("gs://bucket/a", "gs://bucket/a");
        accepted("az://container/a", "az://container/a");
        accepted("https://example.com/m.onnx?v=1", "https://example.com/m.onnx?v=1");
        accepted("oci://ghcr.io/acme/iris:v1", "oci://ghcr.io/acme/iris:v1");
        accepted("mlflow://models/iris@champion", "mlflow://models/iris@champion");
        accepted("mlflow://models/iris/3", "mlflow://models/iris/3");
    }

    #[test]
    fn refused_table() {
        refused("", "empty", "file://");
        refused("/models/iris", "no scheme", "write `file:///models/iris`");
        refused("models/iris", "no scheme", "write `file://./models/iris`");
        refused("file:../iris", "no scheme", "write `file://../iris`");
        refused("file://models/iris", "names the host `models`", "`file://./models/iris`");
        refused("file://", "names no file", "file:///");
        refused("http://example.com/m", "plain http", "`https://example.com/m`");
        refused("S3://bucket/a", "unknown scheme `S3`", "did you mean `s3://`?");
        refused("gcs://bucket/a", "unknown scheme", "did you mean `gs://`?");
        refused("ftp://host/a", "unknown scheme `ftp`", "mlflow://");
        refused("s3://", "nothing after", "s3://BUCKET/KEY");
        refused("s3://my bucket/a", "must not hold ` `", "s3://BUCKET/KEY");
        refused("pvc://../etc", "must start with a letter", "pvc://CLAIM/PATH");
        refused("pvc://models/../../etc", "leaves the volume", "root of the volume");
        refused("https://example.com", "not the https address of a file", "https://HOST/PATH");
        refused("https://me:hunter2@example.com/a", "password", "credentialsSecret");
        refused("oci://iris", "not an image reference", "oci://REGISTRY");
        refused("mlflow://iris", "no registered model", "mlflow://models/NAME@ALIAS");
        refused("mlflow://models/iris@", "no registered model", "mlflow://models/NAME@ALIAS");
        refused("mlflow://models/iris/x", "no registered model", "VERSION");
        refused("s3://b/a\u{0}", "control character U+0000", "remove");
    }

    #[test]
    fn a_password_is_not_repeated() {
        let error = "https://me:hunter2@example.com/a".parse::<ModelUri>().expect_err("refused");
        assert!(!format!("{error:?}").contains("hunter2"));
    }

    #[test]
    fn relative_paths_start_at_the_manifests_folder() {
        let uri: ModelUri = "file://../iris/model.onnx".parse().expect("valid");
        let joined = uri.relative_to(Path::new("/project/service"));
        assert_eq!(joined, ModelUri::File("/project/service/../iris/model.onnx".into()));
        let absolute: ModelUri = "file:///models/iris".parse().expect("valid");
        assert_eq!(absolute.relative_to(Path::new("/project")), absolute);
    }

    proptest! {
        #[test]
        fn what_is_accepted_prints_and_parses_back(
            scheme in "file|pvc|s3|gs|az|https|oci|mlflow|http|S3",
            rest in "[a-z0-9./@:_ %?-]{0,30}",
        ) {
            if let Ok(uri) = format!("{scheme}://{rest}").parse::<ModelUri>() {
                prop_assert_eq!(uri.to_string().parse(), Ok(uri));
            }
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,60}") {
            let _ = text.parse::<ModelUri>();
        }
    }
}
