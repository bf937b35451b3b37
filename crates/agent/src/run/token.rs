//! What only the workers of one job know.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ring::{hmac, rand};

/// Random bytes that a listener sends, to be answered once.
pub(super) const CHALLENGE: usize = 32;
/// Of SHA-256.
pub(super) const PROOF: usize = 32;
/// 16 random bytes in hexadecimal; ours have 32.
const SHORTEST: usize = 32;
const LONGEST: u64 = 4096;
/// A secret of the workers of one job. It is never sent: who knows it can prove that.
#[derive(Clone)]
pub struct Token(hmac::Key);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("cannot read the token in `{}`", path.display())]
    NotRead {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "the token in `{}` is shorter than {SHORTEST} characters; make one with `openssl rand -hex 32`",
        path.display()
    )]
    TooShort { path: PathBuf },
    #[error("the token in `{}` is longer than {LONGEST} bytes", path.display())]
    TooLong { path: PathBuf },
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

impl Token {
    /// Reads a file of nothing but the token; white space around it is none of it. Blocks.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let unread = |source| TokenError::NotRead { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes))
            .map_err(unread)?;
        if bytes.len() as u64 > LONGEST {
            return Err(TokenError::TooLong { path: path.to_owned() });
        }
        let token = bytes.trim_ascii();
        if token.len() < SHORTEST {
            return Err(TokenError::TooShort { path: path.to_owned() });
        }
        Ok(Self::of(token))
    }

    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// Shows that whoever sends this request for that purpose, in answer to that challenge, knows the
    /// token.
    pub(super) fn prove(
        &self,
        purpose: &[u8],
        challenge: &[u8; CHALLENGE],
        request: &[u8],
    ) -> [u8; PROOF] {
        let mut context = hmac::Context::with_key(&self.0);
        [purpose, challenge, request].into_iter().for_each(|part| context.update(part));
        let tag = context.sign();
        let mut proof = [0; PROOF];
        proof.copy_from_slice(tag.as_ref());
        proof
    }

    /// Takes as long for a wrong proof as for a right one.
    pub(super) fn believes(
        &self,
        proof: &[u8; PROOF],
        purpose: &[u8],
        challenge: &[u8; CHALLENGE],
        request: &[u8],
    ) -> bool {
        let said = [purpose, challenge, request].concat();
        hmac::verify(&self.0, &said, proof).is_ok()
    }
}

/// One that nobody can foresee.
pub(super) fn challenge() -> io::Result<[u8; CHALLENGE]> {
    let random: rand::Random<[u8; CHALLENGE]> = rand::generate(&rand::SystemRandom::new())
        .map_err(|_| io::Error::other("the system gives no random bytes"))?;
    Ok(random.expose())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_of_one_purpose_one_challenge_and_one_request() {
        let (ours, other) = (Token::of(&[1; 32]), Token::of(&[2; 32]));
        let (first, second) = (challenge().unwrap(), challenge().unwrap());
        assert_ne!(first, second);
        let proof = ours.prove(b"run", &first, b"run this");
        assert!(ours.believes(&proof, b"run", &first, b"run this"));
        assert!(!ours.believes(&proof, b"run", &second, b"run this"));
        assert!(!ours.believes(&proof, b"run", &first, b"run that"));
        assert!(!ours.believes(&proof, b"fly", &first, b"run this"));
        assert!(!other.believes(&proof, b"run", &first, b"run this"));
        assert!(!ours.believes(&[0; PROOF], b"run", &first, b"run this"));
        assert_eq!(format!("{ours:?}"), "Token(hidden)");
    }

    #[test]
    fn files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let read = |content: &[u8]| {
            std::fs::write(&path, content).unwrap();
            Token::read(&path).map_err(|error| error.to_string())
        };
        let token = read(format!("{}\n", "a".repeat(64)).as_bytes()).unwrap();
        let proof = Token::of(&[b'a'; 64]).prove(b"", &[0; CHALLENGE], b"");
        assert!(token.believes(&proof, b"", &[0; CHALLENGE], b""));
        assert!(read(b"  short \n").unwrap_err().contains("shorter than 32"));
        assert!(read(&[b'a'; 5000]).unwrap_err().contains("longer than 4096"));
        // Any bytes will do.
        assert!(read(&[0xff; 32]).is_ok());
        std::fs::remove_file(&path).unwrap();
        assert!(Token::read(&path).unwrap_err().to_string().contains("cannot read"));
    }
}
