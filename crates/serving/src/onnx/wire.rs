//! Protocol-buffer fields as slices of the message, for editing a model without decoding it all.

/// One field of a message.
pub(super) struct Field<'a> {
    pub(super) tag: u32,
    /// Key and value as they stand in the message.
    pub(super) whole: &'a [u8],
    /// The content of a length-delimited field (strings, messages), else empty.
    pub(super) content: &'a [u8],
}

/// Walks the fields of one message. Yields an error once, and then nothing, where it is malformed.
pub(super) fn fields(message: &[u8]) -> impl Iterator<Item = Result<Field<'_>, Malformed>> {
    let mut rest = message;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = next(rest);
        rest = match &field {
            Ok(field) => rest.get(field.whole.len()..).unwrap_or_default(),
            Err(_) => &[],
        };
        Some(field)
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed protocol buffer")]
pub(super) struct Malformed;

fn next(message: &[u8]) -> Result<Field<'_>, Malformed> {
    let (key, key_length) = varint(message)?;
    let after_key = message.get(key_length..).ok_or(Malformed)?;
    let tag = u32::try_from(key >> 3).map_err(|_| Malformed)?;
    let (header, content_length) = match key & 7 {
        0 => (varint(after_key)?.1, 0),
        1 => (8, 0),
        2 => {
            let (length, header) = varint(after_key)?;
            (header, usize::try_from(length).map_err(|_| Malformed)?)
        }
        5 => (4, 0),
        // Groups (3 and 4) were never used in onnx.proto.
        _ => return Err(Malformed),
    };
    let content = after_key
        .get(header..)
        .and_then(|after_header| after_header.get(..content_length))
        .ok_or(Malformed)?;
    let whole = key_length
        .checked_add(header)
        .and_then(|start| start.checked_add(content_length))
        .and_then(|end| message.get(..end))
        .ok_or(Malformed)?;
    Ok(Field { tag, whole, content })
}

/// A base-128 number and its length in bytes.
fn varint(bytes: &[u8]) -> Result<(u64, usize), Malformed> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(7 * index as u32).ok_or(Malformed)?;
        if byte & 0x80 == 0 {
            return Ok((value, index + 1));
        }
    }
    Err(Malformed)
}

/// Appends a length-delimited field.
pub(super) fn push(message: &mut Vec<u8>, tag: u32, content: &[u8]) {
    push_varint(message, u64::from(tag) << 3 | 2);
    push_varint(message, content.len() as u64);
    message.extend_from_slice(content);
}

fn push_varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push((value as u8) | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}
