//! What kustomizations make of the objects in other folders.
//!
//! A base is not the whole truth about its objects: an overlay that refers to its folder may patch
//! and rename them.

use std::collections::{HashMap, HashSet};

use super::object::Object;

/// Folders whose objects a kustomization elsewhere changes, and files that hold its patches.
#[derive(Debug, Default)]
pub(super) struct Overlaid<'b> {
    patched: HashSet<Folder<'b>>,
    renamed: HashSet<Folder<'b>>,
    /// Files, as folders are: what they hold is laid over other objects.
    patch_files: HashSet<Folder<'b>>,
}

/// Parts of a folder's path.
type Folder<'b> = Vec<&'b str>;

/// Lists of a kustomization that name files and folders.
const SOURCES: [&str; 3] = ["resources", "bases", "components"];
/// Fields by which it changes parts of objects.
const PATCHES: [&str; 5] =
    ["patches", "patchesStrategicMerge", "patchesJson6902", "replacements", "components"];

impl<'b> Overlaid<'b> {
    /// Follows what each kustomization refers to, and what that refers to in turn.
    pub(super) fn new(kustomizations: impl Iterator<Item = Object<'b>>) -> Self {
        let mut overlaid = Self::default();
        let mut includes: HashMap<Folder<'b>, Vec<Folder<'b>>> = HashMap::new();
        let (mut patched, mut renamed) = (Vec::new(), Vec::new());
        for kustomization in kustomizations {
            let here = folder(&kustomization);
            let root = kustomization.root;
            let named = SOURCES.iter().flat_map(|key| root.get(key).items());
            let folders: Vec<Folder<'b>> =
                named.filter_map(|node| resolve(&here, node.text()?)).collect();
            let names = ["namePrefix", "nameSuffix"].iter().any(|key| root.get(key).is_set());
            if PATCHES.iter().any(|key| !root.get(key).is_empty()) {
                patched.extend(folders.iter().cloned());
                if root.get("resources").items().any(|node| is_file(node.str())) {
                    patched.push(here.clone());
                }
            }
            if names {
                renamed.extend(folders.iter().cloned());
                renamed.push(here.clone());
            }
            let listed = root.get("patches").items().map(|patch| patch.get("path"));
            for patch in listed.chain(root.get("patchesStrategicMerge").items()) {
                let file = patch.text().filter(|name| is_file(name));
                overlaid.patch_files.extend(file.and_then(|name| join(&here, name)));
            }
            includes.entry(here).or_default().extend(folders);
        }
        follow(patched, &includes, &mut overlaid.patched);
        follow(renamed, &includes, &mut overlaid.renamed);
        overlaid
    }

    /// Whether an overlay patches what is in the object's folder, or the object is a patch.
    pub(super) fn patches(&self, object: &Object<'b>) -> bool {
        !self.patched.is_empty() && self.patched.contains(&folder(object))
            || !self.patch_files.is_empty() && self.patch_files.contains(&path(object))
    }

    /// Whether a kustomization gives what is in the object's folder other names.
    pub(super) fn renames(&self, object: &Object<'b>) -> bool {
        !self.renamed.is_empty() && self.renamed.contains(&folder(object))
    }
}

/// Adds folders and all that they include; each once, so that circles end.
fn follow<'b>(
    mut open: Vec<Folder<'b>>,
    includes: &HashMap<Folder<'b>, Vec<Folder<'b>>>,
    into: &mut HashSet<Folder<'b>>,
) {
    while let Some(folder) = open.pop() {
        if into.contains(&folder) {
            continue;
        }
        open.extend(includes.get(&folder).into_iter().flatten().cloned());
        into.insert(folder);
    }
}

fn folder<'b>(object: &Object<'b>) -> Folder<'b> {
    let mut parts = path(object);
    parts.pop();
    parts
}

fn path<'b>(object: &Object<'b>) -> Folder<'b> {
    let name = object.root.file().name.as_str();
    name.split(['/', '\\']).filter(|part| !part.is_empty() && *part != ".").collect()
}

fn is_file(name: &str) -> bool {
    [".yaml", ".yml", ".json"].iter().any(|ending| name.ends_with(ending))
}

/// The folder that a kustomization names; `None` for files, and for what lies elsewhere (URLs).
fn resolve<'b>(here: &Folder<'b>, name: &'b str) -> Option<Folder<'b>> {
    if is_file(name) || name.contains([':', '?']) {
        return None;
    }
    join(here, name)
}

/// A relative path from a folder; `None` if it leads out of what is known.
fn join<'b>(here: &Folder<'b>, name: &'b str) -> Option<Folder<'b>> {
    let mut parts = here.clone();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts)
}

#[test]
fn names_of_folders() {
    let here = vec!["a", "overlay"];
    assert_eq!(resolve(&here, "../base"), Some(vec!["a", "base"]));
    assert_eq!(resolve(&here, "./part/"), Some(vec!["a", "overlay", "part"]));
    assert_eq!(resolve(&here, "deployment.yaml"), None);
    assert_eq!(resolve(&here, "https://example.org/x"), None);
    assert_eq!(resolve(&here, "../../../x"), None);
}
