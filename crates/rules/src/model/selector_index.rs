//! From labels to the objects whose selectors select them.

use std::collections::HashMap;

use crate::yaml::Node;

use super::bundle::MOST_ANSWERS;
use super::namespace_index::around;
use super::selector::Selector;

/// Selectors that one look-up tries at most in each list, those near by first.
const MOST_TRIED: usize = 4 * MOST_ANSWERS;

/// Objects that select by labels: Services, policies, budgets, monitors.
///
/// Each is filed under the one label of its selector that fewest others share, and there by
/// namespace, so that a look-up sees little more than what it answers.
#[derive(Debug, Default)]
pub(super) struct SelectorIndex<'b> {
    by_label: HashMap<(&'b str, &'b str), Vec<Entry<'b>>>,
    /// Selectors without a label that must be equal: empty ones, and those of expressions only.
    others: Vec<Entry<'b>>,
}

#[derive(Debug)]
struct Entry<'b> {
    /// Empty if it selects in any.
    namespace: &'b str,
    file: usize,
    number: usize,
    selector: Selector<'b>,
}

impl<'b> SelectorIndex<'b> {
    /// Files numbers by namespace (empty for any) and selector; numbers rise with the file.
    pub(super) fn new(found: impl Iterator<Item = (usize, &'b str, Selector<'b>)>) -> Self {
        let entries: Vec<Entry<'b>> = found
            .map(|(number, namespace, selector)| {
                let file = selector.node.file().index;
                Entry { namespace, file, number, selector }
            })
            .collect();
        let mut sharing: HashMap<(&str, &str), usize> = HashMap::new();
        for label in entries.iter().flat_map(|entry| &entry.selector.labels) {
            *sharing.entry(*label).or_default() += 1;
        }
        let mut index = Self::default();
        for entry in entries {
            let rarest = entry.selector.labels.iter().min_by_key(|label| sharing.get(*label));
            match rarest.copied() {
                Some(label) => index.by_label.entry(label).or_default().push(entry),
                None => index.others.push(entry),
            }
        }
        for list in index.by_label.values_mut().chain([&mut index.others]) {
            list.sort_by_key(|entry| (entry.namespace, entry.number));
        }
        index
    }

    /// Numbers of what selects these labels in a namespace, in order. Of more than `most` that one
    /// label leads to, `most` of those that stand near a file.
    pub(super) fn matching(
        &self,
        labels: Node<'_>,
        namespace: &str,
        file: usize,
        most: usize,
    ) -> Vec<usize> {
        let filed = labels.entries().filter_map(|label| {
            let list: &[Entry<'b>] = self.by_label.get(&(label.key, label.value.str()))?;
            Some(list)
        });
        let mut found: Vec<usize> = filed
            .chain([self.others.as_slice()])
            .flat_map(|list| {
                near(list, namespace, file)
                    .filter(|entry| entry.selector.matches(labels))
                    .map(|entry| entry.number)
                    .take(most)
            })
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// Those of a sorted list that may be in a namespace; of very many those near a file.
fn near<'a, 'b>(
    list: &'a [Entry<'b>],
    namespace: &str,
    file: usize,
) -> impl Iterator<Item = &'a Entry<'b>> + use<'a, 'b> {
    let range = |name: &str| {
        let first = list.partition_point(|entry| entry.namespace < name);
        let end = list.partition_point(|entry| entry.namespace <= name);
        around(list.get(first..end).unwrap_or_default(), |entry| entry.file < file, MOST_TRIED)
    };
    let (anywhere, there): (&[Entry<'b>], &[Entry<'b>]) =
        if namespace.is_empty() { (list, &[]) } else { (range(""), range(namespace)) };
    anywhere.iter().take(MOST_TRIED).chain(there)
}
