//! The protocol buffer text format as a tree, before anything is known of its meaning.

use super::lexer::{Mistake, Token, tokens};
use super::place::Place;

/// Deeper nesting than any configuration has; bounds the recursion.
const MAX_DEPTH: usize = 32;

/// One `name: value`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) value: Node,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) content: Content,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    Text(String),
    /// A number or a name as written, with its sign.
    Plain(String),
    Message(Vec<Entry>),
    List(Vec<Node>),
}

/// Parses a whole file.
pub(super) fn parse(text: &str) -> Result<Vec<Entry>, Mistake> {
    let tokens = tokens(text)?;
    let end = tokens.last().map_or(Place { line: 1, column: 1 }, |(_, place)| *place);
    Parser { tokens: tokens.into_iter(), end, depth: 0 }.entries(None)
}

struct Parser {
    tokens: std::vec::IntoIter<(Token, Place)>,
    end: Place,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.as_slice().first().map(|(token, _)| token)
    }

    fn next(&mut self) -> (Token, Place) {
        self.tokens.next().unwrap_or((Token::End, self.end))
    }

    fn next_is(&mut self, symbol: char) -> bool {
        let found = self.peek() == Some(&Token::Symbol(symbol));
        if found {
            self.next();
        }
        found
    }

    /// Reads entries until the symbol that closes the message opened at `open`, or the end.
    fn entries(&mut self, open: Option<(Place, char)>) -> Result<Vec<Entry>, Mistake> {
        let mut entries = Vec::new();
        loop {
            let (token, place) = self.next();
            let name = match (token, open) {
                (Token::Word(name), _) => name,
                (Token::End, None) => return Ok(entries),
                (Token::Symbol(close), Some((_, wanted))) if close == wanted => return Ok(entries),
                (Token::Symbol('['), _) => {
                    return Err((place, "extensions and Any values are not supported".to_owned()));
                }
                (other, None) => return Err((place, format!("expected a field, found {other}"))),
                (other, Some((begin, wanted))) => {
                    return Err((
                        place,
                        format!(
                            "expected a field or the '{wanted}' that closes the message opened at \
                             {begin}, found {other}"
                        ),
                    ));
                }
            };
            let has_colon = self.next_is(':');
            let value = self.value(&name, has_colon)?;
            if !self.next_is(',') {
                self.next_is(';');
            }
            entries.push(Entry { name, place, value });
        }
    }

    fn value(&mut self, name: &str, has_colon: bool) -> Result<Node, Mistake> {
        let (token, place) = self.next();
        let content = match token {
            Token::Symbol(open @ ('{' | '<')) => {
                let close = if open == '{' { '}' } else { '>' };
                self.nested(place, |parser| parser.entries(Some((place, close))))
                    .map(Content::Message)?
            }
            Token::Symbol('[') => {
                Content::List(self.nested(place, |parser| parser.list(name, place, has_colon))?)
            }
            other if !has_colon => {
                return Err((place, format!("expected ':' behind '{name}', found {other}")));
            }
            Token::Text(mut text) => {
                // Strings next to each other are one.
                while let Some(Token::Text(more)) = self.peek() {
                    text.push_str(more);
                    self.next();
                }
                Content::Text(text)
            }
            Token::Word(text) | Token::Number(text) => Content::Plain(text),
            Token::Symbol('-') => match self.next() {
                (Token::Word(text) | Token::Number(text), _) => Content::Plain(format!("-{text}")),
                (other, place) => {
                    return Err((place, format!("expected a number behind '-', found {other}")));
                }
            },
            other => {
                return Err((place, format!("expected a value for '{name}', found {other}")));
            }
        };
        Ok(Node { place, content })
    }

    fn list(&mut self, name: &str, open: Place, has_colon: bool) -> Result<Vec<Node>, Mistake> {
        let mut nodes = Vec::new();
        if self.next_is(']') {
            return Ok(nodes);
        }
        loop {
            nodes.push(self.value(name, has_colon)?);
            if self.next_is(']') {
                return Ok(nodes);
            }
            if !self.next_is(',') {
                let (other, place) = self.next();
                return Err((
                    place,
                    format!(
                        "expected ',' or the ']' that closes the list opened at {open}, found \
                         {other}"
                    ),
                ));
            }
        }
    }

    fn nested<T>(
        &mut self,
        place: Place,
        read: impl FnOnce(&mut Self) -> Result<T, Mistake>,
    ) -> Result<T, Mistake> {
        if self.depth == MAX_DEPTH {
            return Err((place, format!("nested deeper than {MAX_DEPTH}")));
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }
}
