//! Tokens of the protocol buffer text format.

use super::place::Place;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A name of a field or of an enumeration's value.
    Word(String),
    /// A number as it is written.
    Number(String),
    /// The content of a string, escapes resolved.
    Text(String),
    Symbol(char),
    End,
}

impl std::fmt::Display for Token {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Word(text) | Self::Number(text) => write!(formatter, "'{text}'"),
            Self::Text(text) => write!(formatter, "the string {text:?}"),
            Self::Symbol(symbol) => write!(formatter, "'{symbol}'"),
            Self::End => formatter.write_str("the end of the file"),
        }
    }
}

/// What is no token, and where.
pub(super) type Mistake = (Place, String);

/// Splits text into tokens; the last is [`Token::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<(Token, Place)>, Mistake> {
    let mut lexer = Lexer { rest: text.chars().peekable(), place: Place { line: 1, column: 1 } };
    let mut tokens = Vec::new();
    loop {
        let (token, place) = lexer.token()?;
        let is_end = token == Token::End;
        tokens.push((token, place));
        if is_end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    place: Place,
}

impl Lexer<'_> {
    fn next(&mut self) -> Option<char> {
        let next = self.rest.next()?;
        if next == '\n' {
            self.place = Place { line: self.place.line.saturating_add(1), column: 1 };
        } else {
            self.place.column = self.place.column.saturating_add(1);
        }
        Some(next)
    }

    fn token(&mut self) -> Result<(Token, Place), Mistake> {
        self.skip_blanks();
        let place = self.place;
        let token = match self.rest.peek() {
            None => Token::End,
            Some('"' | '\'') => Token::Text(self.text()?),
            Some(first) if first.is_ascii_alphabetic() || *first == '_' => {
                Token::Word(self.run(|_, next| next.is_ascii_alphanumeric() || next == '_'))
            }
            Some(first) if first.is_ascii_digit() || *first == '.' => {
                // A sign belongs to a number only behind a decimal exponent's mark.
                Token::Number(self.run(|text, next| {
                    let signed = matches!(next, '+' | '-')
                        && text.ends_with(['e', 'E'])
                        && !text.starts_with("0x");
                    next.is_ascii_alphanumeric() || matches!(next, '.' | '_') || signed
                }))
            }
            Some(':' | '{' | '}' | '<' | '>' | '[' | ']' | ',' | ';' | '-' | '/') => {
                Token::Symbol(self.next().expect("peeked"))
            }
            Some(other) => return Err((place, format!("unexpected character {other:?}"))),
        };
        Ok((token, place))
    }

    fn skip_blanks(&mut self) {
        while let Some(next) = self.rest.peek() {
            if *next == '#' {
                while self.next().is_some_and(|next| next != '\n') {}
            } else if next.is_whitespace() || *next == '\u{feff}' {
                self.next();
            } else {
                return;
            }
        }
    }

    fn run(&mut self, belongs: impl Fn(&str, char) -> bool) -> String {
        let mut text = String::new();
        while let Some(next) = self.rest.peek().copied()
            && belongs(&text, next)
        {
            text.push(next);
            self.next();
        }
        text
    }

    fn text(&mut self) -> Result<String, Mistake> {
        let begin = self.place;
        let quote = self.next();
        // Escapes name bytes, so that only the whole is checked to be UTF-8.
        let mut bytes = Vec::new();
        loop {
            let place = self.place;
            match self.next() {
                None | Some('\n') => {
                    return Err((begin, "the string that begins here has no end".to_owned()));
                }
                next if next == quote => break,
                Some('\\') => {
                    self.escape(&mut bytes).map_err(|message| (place, message))?;
                }
                Some(plain) => push(&mut bytes, plain),
            }
        }
        String::from_utf8(bytes).map_err(|_| (begin, "the string is not UTF-8".to_owned()))
    }

    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<(), String> {
        let unknown = "unknown escape in a string".to_owned();
        let byte = match self.next().ok_or_else(|| unknown.clone())? {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            same @ ('\\' | '\'' | '"' | '?') => same as u8,
            first @ '0'..='7' => {
                let mut digits = String::from(first);
                self.digits(&mut digits, 3, 8);
                let value = u32::from_str_radix(&digits, 8).unwrap_or(u32::MAX);
                u8::try_from(value).map_err(|_| format!("the escape \\{digits} is no byte"))?
            }
            'x' | 'X' => {
                let mut digits = String::new();
                self.digits(&mut digits, 2, 16);
                u8::from_str_radix(&digits, 16).map_err(|_| unknown)?
            }
            kind @ ('u' | 'U') => {
                let length = if kind == 'u' { 4 } else { 8 };
                let mut digits = String::new();
                self.digits(&mut digits, length, 16);
                let value = (digits.len() == length)
                    .then(|| u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32));
                push(bytes, value.flatten().ok_or(unknown)?);
                return Ok(());
            }
            _ => return Err(unknown),
        };
        bytes.push(byte);
        Ok(())
    }

    /// Appends digits until there are `most`.
    fn digits(&mut self, digits: &mut String, most: usize, radix: u32) {
        while digits.len() < most
            && let Some(next) = self.rest.peek().copied()
            && next.is_digit(radix)
        {
            digits.push(next);
            self.next();
        }
    }
}

fn push(bytes: &mut Vec<u8>, character: char) {
    bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
}
