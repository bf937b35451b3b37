//! From names to the objects or pods that have them, by namespace.

use std::collections::HashMap;
use std::hash::Hash;

use super::bundle::MOST_ANSWERS;

/// Numbers of objects or pods under keys that thousands may share: `app: server` in each of a
/// thousand namespaces. A look-up sees those of one namespace, and of very many the ones that
/// stand near by, so that its cost does not grow with the bundle.
#[derive(Debug)]
pub(super) struct NamespaceIndex<'b, K> {
    /// Each in the order of namespaces, then of numbers.
    lists: HashMap<K, Vec<Entry<'b>>>,
}

#[derive(Debug)]
struct Entry<'b> {
    /// Empty where none is set.
    namespace: &'b str,
    file: usize,
    number: usize,
}

impl<K> Default for NamespaceIndex<'_, K> {
    fn default() -> Self {
        Self { lists: HashMap::new() }
    }
}

impl<'b, K: Eq + Hash> NamespaceIndex<'b, K> {
    /// Files numbers by key, namespace and the number of the file; both numbers must rise.
    pub(super) fn new(found: impl Iterator<Item = (K, &'b str, usize, usize)>) -> Self {
        let mut index = Self::default();
        for (key, namespace, file, number) in found {
            index.lists.entry(key).or_default().push(Entry { namespace, file, number });
        }
        for list in index.lists.values_mut() {
            list.sort_by_key(|entry| (entry.namespace, entry.number));
        }
        index
    }

    /// How many have a key.
    pub(super) fn count(&self, key: &K) -> usize {
        self.lists.get(key).map_or(0, Vec::len)
    }

    /// Numbers of what has a key and may be in a namespace (empty for any), in order. Of more than
    /// `most`, about as many that stand near a file.
    pub(super) fn get(&self, key: &K, namespace: &str, file: usize, most: usize) -> Vec<usize> {
        let mut found: Vec<usize> = self.each(key, namespace, file, most).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The same in no order, some of them twice, for look-ups that need few of many.
    pub(super) fn each(
        &self,
        key: &K,
        namespace: &str,
        file: usize,
        most: usize,
    ) -> impl Iterator<Item = usize> {
        let list = self.lists.get(key).map(Vec::as_slice).unwrap_or_default();
        let few = list.len() <= MOST_ANSWERS;
        let of = |name: &str| {
            let first = list.partition_point(|entry| entry.namespace < name);
            let end = list.partition_point(|entry| entry.namespace <= name);
            list.get(first..end).unwrap_or_default()
        };
        let near = |list| around(list, |entry: &Entry<'_>| entry.file < file, most);
        let (unset, set): (&[Entry<'_>], &[Entry<'_>]) = match namespace {
            "" if few => (&[], list),
            "" => (near(of("")), list.get(..most.min(list.len())).unwrap_or_default()),
            _ if few => (of(""), of(namespace)),
            _ => (near(of("")), near(of(namespace))),
        };
        unset.iter().chain(set).map(|entry| entry.number)
    }
}

/// At most `most` of a list in the order of files, from a little before those of one file on.
pub(super) fn around<T>(list: &[T], is_before: impl Fn(&T) -> bool, most: usize) -> &[T] {
    let own = list.partition_point(is_before);
    let start = own.saturating_sub(most / 4).min(list.len().saturating_sub(most));
    list.get(start..list.len().min(start + most)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_all_told_and_of_many_those_near() {
        let few = [("a", "x", 0, 0), ("a", "", 0, 1), ("a", "y", 1, 2), ("b", "x", 1, 3)];
        let index = NamespaceIndex::new(few.into_iter());
        assert_eq!(index.get(&"a", "x", 0, 256), [0, 1]);
        assert_eq!(index.get(&"a", "", 0, 256), [0, 1, 2]);
        assert_eq!(index.get(&"c", "x", 0, 256), Vec::<usize>::new());

        // 2,000 files with one each, in namespaces in turn.
        let spaces = ["", "x", "y"];
        let many = (0..2000).map(|n| ("a", spaces[n % 3], n, n));
        let index = NamespaceIndex::new(many);
        assert_eq!(index.count(&"a"), 2000);
        let found = index.get(&"a", "x", 1900, 32);
        // File 1900 is of `x`, 1899 of none.
        assert!(found.contains(&1900) && found.contains(&1899), "{found:?}");
        assert!(found.len() <= 64 && found.iter().all(|n| n % 3 != 2), "{found:?}");
        assert!(index.get(&"a", "", 1500, 32).contains(&1500));
    }
}
