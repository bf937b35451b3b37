//! Puts the rows of several requests into one set of tensors, and takes answers apart again.

use bytes::{Bytes, BytesMut};

use crate::tensor::{Data, Shape, Tensor, element_count};

/// Stacks tensors along the first dimension; they agree in type and in all others.
///
/// Fixed-size elements are copied once; byte strings are shared.
pub(crate) fn concatenate(parts: &[&Tensor]) -> Option<Tensor> {
    let first = parts.first()?;
    let rows = parts
        .iter()
        .try_fold(0usize, |rows, part| rows.checked_add(part.shape().first().copied()?))?;
    let mut shape = Shape::from_slice(first.shape());
    *shape.first_mut()? = rows;
    let data = match first.data() {
        Data::Fixed(_) => {
            let bytes = parts.iter().map(|part| part.fixed().map_or(0, Bytes::len)).sum();
            let mut joined = BytesMut::with_capacity(bytes);
            for part in parts {
                joined.extend_from_slice(part.fixed()?);
            }
            Data::Fixed(joined.freeze())
        }
        Data::Bytes(_) => {
            let mut joined = Vec::with_capacity(element_count(&shape)?);
            for part in parts {
                let Data::Bytes(elements) = part.data() else { return None };
                joined.extend_from_slice(elements);
            }
            Data::Bytes(joined)
        }
    };
    Tensor::new(first.data_type(), shape, data).ok()
}

/// Splits a tensor along the first dimension, without copying fixed-size elements.
///
/// `None` if `rows` do not add up to the first dimension, which means that the model does not keep
/// one output row for each input row.
pub(crate) fn split(tensor: &Tensor, rows: &[usize]) -> Option<Vec<Tensor>> {
    let (total, inner) = tensor.shape().split_first()?;
    let expected = rows.iter().try_fold(0usize, |sum, rows| sum.checked_add(*rows))?;
    if expected != *total {
        return None;
    }
    let row_elements = element_count(inner)?;
    let mut start = 0usize;
    let mut parts = Vec::with_capacity(rows.len());
    for &rows in rows {
        let end = start.checked_add(rows.checked_mul(row_elements)?)?;
        let data = match (tensor.data(), tensor.data_type().size()) {
            (Data::Fixed(bytes), Some(size)) => {
                let (from, to) = (start.checked_mul(size)?, end.checked_mul(size)?);
                (to <= bytes.len()).then(|| Data::Fixed(bytes.slice(from..to)))?
            }
            (Data::Bytes(elements), _) => Data::Bytes(elements.get(start..end)?.to_vec()),
            (Data::Fixed(_), None) => return None,
        };
        let mut shape = Shape::from_slice(tensor.shape());
        *shape.first_mut()? = rows;
        parts.push(Tensor::new(tensor.data_type(), shape, data).ok()?);
        start = end;
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fixtures::{ints, strings};
    use super::*;

    #[test]
    fn splitting_shares_the_buffer() {
        let whole = ints(&[3, 2], &[1, 2, 3, 4, 5, 6]);
        let parts = split(&whole, &[1, 2]).expect("adds up");
        assert_eq!(parts, [ints(&[1, 2], &[1, 2]), ints(&[2, 2], &[3, 4, 5, 6])]);
        let start = whole.fixed().expect("fixed").as_ptr();
        assert_eq!(parts[1].fixed().expect("fixed").as_ptr(), start.wrapping_add(8));
    }

    #[test]
    fn rows_that_do_not_add_up_are_refused() {
        assert_eq!(split(&ints(&[3], &[1, 2, 3]), &[1, 1]), None);
        assert_eq!(split(&ints(&[], &[1]), &[1]), None);
        assert_eq!(split(&ints(&[3], &[1, 2, 3]), &[usize::MAX, 4]), None);
    }

    #[test]
    fn strings_and_empty_rows() {
        let (one, two) = (strings(&[1, 2], &["a", "b"]), strings(&[2, 2], &["c", "d", "e", "f"]));
        let none = strings(&[0, 2], &[]);
        let joined = concatenate(&[&one, &none, &two]).expect("agree");
        assert_eq!(joined, strings(&[3, 2], &["a", "b", "c", "d", "e", "f"]));
        assert_eq!(split(&joined, &[1, 0, 2]), Some(vec![one, none, two]));
    }

    proptest! {
        #[test]
        fn splitting_undoes_concatenating(
            rows in prop::collection::vec(0usize..5, 1..6),
            inner in prop::collection::vec(0usize..4, 0..3),
        ) {
            let mut next = 0;
            let parts: Vec<_> = rows
                .iter()
                .map(|rows| {
                    let shape: Vec<_> = std::iter::once(*rows).chain(inner.clone()).collect();
                    let elements: Vec<i32> = (next..).take(shape.iter().product()).collect();
                    next += elements.len() as i32;
                    ints(&shape, &elements)
                })
                .collect();
            let joined = concatenate(&parts.iter().collect::<Vec<_>>()).expect("agree");
            prop_assert_eq!(split(&joined, &rows), Some(parts));
        }
    }
}
