//! Texts become trees whose every part knows its place.
//!
//! In: named texts, YAML or JSON, of any origin. Out: [`Documents`], a tree for each document that
//! could be read and a [`ReadError`] for each that could not. One document that is broken costs
//! none of its neighbours: documents are told apart before they are parsed.

mod build;
mod node;
mod plain;
mod read_error;
mod scalar;
mod split;
mod tree;

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use node::LOOKUPS;
pub use node::{Entry, Node};
pub use read_error::ReadError;
pub use tree::{File, Place, Span};

/// What is read at most in one file; offsets are 32 bits wide.
const LARGEST_FILE: usize = 1 << 30;

/// A named text.
#[derive(Debug, Clone)]
pub struct Source {
    /// The path as people know it, or `-` for standard input.
    pub name: String,
    pub text: String,
}

impl Source {
    /// A source from bytes of unknown origin.
    ///
    /// # Errors
    ///
    /// Bytes that are not UTF-8, with the place of the first of them.
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Self, ReadError> {
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self { name: name.to_owned(), text }),
            Err(error) => Err(ReadError::not_text(name, error.as_bytes(), error.utf8_error())),
        }
    }
}

/// All texts, read.
#[derive(Debug, Default)]
pub struct Documents {
    pub files: Vec<File>,
    /// In the order of files and of places in them.
    pub errors: Vec<ReadError>,
}

impl Documents {
    /// Reads texts. Takes time and memory in proportion to their length.
    #[must_use]
    pub fn read(sources: Vec<Source>) -> Self {
        let mut files = Vec::with_capacity(sources.len());
        let mut errors = Vec::new();
        for (index, source) in sources.into_iter().enumerate() {
            if source.text.len() > LARGEST_FILE {
                errors.push(ReadError::too_large(&source.name));
                files.push(File::new(index, source.name, String::new()));
                continue;
            }
            let mut file = File::new(index, source.name, source.text);
            build::read_into(&mut file, &mut errors);
            files.push(file);
        }
        Self { files, errors }
    }

    /// Roots of all documents, in the order of the texts. Empty documents are not among them.
    pub fn roots(&self) -> impl Iterator<Item = Node<'_>> {
        self.files.iter().flat_map(|file| file.roots.iter().map(move |&id| Node::new(file, id)))
    }
}
