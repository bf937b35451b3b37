use super::*;

struct Folder(tempfile::TempDir);

impl Folder {
    fn with(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(folder)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// Names of the services, or the first error with the folder's own path cut out.
    fn resolve(&self, targets: &[&str]) -> Result<Vec<String>, String> {
        let targets: Vec<PathBuf> = targets.iter().map(|target| self.path(target)).collect();
        match resolve(&targets) {
            Ok(resolved) => Ok(resolved.services.iter().map(|s| s.name().to_owned()).collect()),
            Err(errors) => {
                let root = format!("{}/", self.0.path().display());
                Err(errors.first().unwrap().to_string().replace(&root, ""))
            }
        }
    }
}

#[track_caller]
fn check(files: &[(&str, &str)], targets: &[&str], expected: &[&str]) {
    assert_eq!(
        Folder::with(files).resolve(targets),
        Ok(expected.iter().map(|s| (*s).to_owned()).collect())
    );
}

#[track_caller]
fn refuse(files: &[(&str, &str)], targets: &[&str], expected: &str) {
    let error = Folder::with(files).resolve(targets).unwrap_err();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn layouts() {
    check(&[("Iris_V2.onnx", "")], &["Iris_V2.onnx"], &["iris-v2"]);
    check(&[("iris/model.onnx", ""), ("iris/make.py", "")], &["iris"], &["iris"]);
    check(&[("iris/model.onnx", ""), ("iris/other.onnx", "")], &["iris"], &["iris"]);
    check(
        &[("flowers/3/model.onnx", ""), ("flowers/12/model.onnx", "")],
        &["flowers"],
        &["flowers"],
    );
    check(
        &[("repo/a/1/model.onnx", ""), ("repo/b_c/1/model.onnx", ""), ("repo/notes/x.txt", "")],
        &["repo"],
        &["a", "b-c"],
    );
    check(
        &[
            ("repo/a/model.onnx", ""),
            ("repo/b/MLmodel", "flavors: {onnx: {data: model.onnx}}"),
            ("repo/b/model.onnx", ""),
            ("repo/c/weights.pt", ""),
        ],
        &["repo"],
        &["a", "b"],
    );
    check(&[("repo/01/model.onnx", "")], &["repo"], &["model-01"]);
    check(&[("repo/a/config.pbtxt", ""), ("repo/a/1/model.onnx", "")], &["repo/a"], &["a"]);
    check(
        &[
            ("m/MLmodel", "flavors: {onnx: {data: model.onnx}}"),
            ("m/model.onnx", ""),
            ("m/conda.yaml", "name: x"),
        ],
        &["m"],
        &["m"],
    );
    check(&[("a.onnx", ""), ("b.onnx", "")], &["a.onnx", "b.onnx"], &["a", "b"]);
}

#[test]
fn what_holds_no_model_says_so() {
    refuse(&[], &["nothing.onnx"], "there is nothing at `nothing.onnx`");
    refuse(&[("model.pkl", "")], &["model.pkl"], "neither an .onnx file, nor a manifest");
    refuse(&[("m/a.onnx", ""), ("m/b.onnx", "")], &["m"], "several models (a.onnx, b.onnx)");
    refuse(&[("m/01/weights.pt", "")], &["m"], "it has `01`");
    refuse(&[("m/weights.pt", "")], &["m"], "it has `weights.pt`");
    refuse(
        &[("m/MLmodel", "flavors: {sklearn: {}}")],
        &["m"],
        "no `onnx` flavor, it has `sklearn`",
    );
    refuse(&[("a/m.onnx", ""), ("b/M.onnx", "")], &["a/m.onnx", "b/M.onnx"], "are both called `m`");
    refuse(&[("empty.yaml", "# nothing\n")], &["empty.yaml"], "holds no ModelService");
    refuse(
        &[("s.yaml", "a: 1\n---\napiVersion: v1\nkind: Secret\nmetadata: {}\n")],
        &["s.yaml"],
        "s.yaml:2: a `Secret` needs",
    );
}

const MANIFEST: &str = "\
apiVersion: trainyard.dev/v1alpha1
kind: ModelService
metadata: {name: iris}
spec:
  model: {uri: file://./model.onnx}
";

#[test]
fn pools_stand_beside_services_and_act_in_clusters_only() {
    let pool = "apiVersion: trainyard.dev/v1alpha1\nkind: GpuPool\nmetadata: {name: t4}\nspec: {nodeSelector: {a: b}}\n";
    let both = format!("{pool}---\n{MANIFEST}");
    let folder = Folder::with(&[("both.yaml", &both), ("model.onnx", ""), ("p/pool.yaml", pool)]);
    let resolved = resolve(&[folder.path("both.yaml")]).unwrap();
    assert_eq!((resolved.services.len(), resolved.gpu_pools.len()), (1, 1));
    let told = resolved.notes_here();
    assert_eq!(told, ["the GpuPool `t4` acts in Kubernetes only; this machine ignores it"]);
    // A folder of pools alone is no mistake.
    let resolved = resolve(&[folder.path("p")]).unwrap();
    assert_eq!((resolved.services.len(), resolved.gpu_pools.len()), (0, 1));
}

#[test]
fn manifests_beside_a_model_win() {
    let folder = Folder::with(&[
        ("m/iris.yaml", MANIFEST),
        ("m/model.onnx", ""),
        ("m/compose.yml", "services: {}"),
        (
            "m/keys.yaml",
            "apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\nstringData: {a: b}\n",
        ),
        ("m/web.yaml", "apiVersion: apps/v1\nkind: Deployment\n"),
    ]);
    let resolved = resolve(&[folder.path("m")]).unwrap();
    assert_eq!(resolved.secrets.keys().collect::<Vec<_>>(), ["keys"]);
    let notes = resolved.notes.join("\n");
    assert!(notes.contains("apps/v1 Deployment is left aside"), "{notes}");
    let [iris] = resolved.services.as_slice() else { panic!("{:?}", resolved.services) };
    assert_eq!(iris.name(), "iris");
    assert_eq!(iris.origin, Origin::Manifest { path: folder.path("m/iris.yaml") });
    assert_eq!(iris.manifest.spec.model.uri, ModelUri::File(folder.path("m/./model.onnx")));
    assert_eq!(iris.folder, folder.path("m"));
}
