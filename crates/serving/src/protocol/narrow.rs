//! Integers that a protocol carries in a wider type than the tensor has.

/// An element that the tensor's type cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooWide {
    pub(crate) index: usize,
    pub(crate) value: i64,
}

/// Converts every element, or names the first that does not fit.
pub(crate) fn narrow<N, W>(wide: Vec<W>) -> Result<Vec<N>, TooWide>
where
    W: Copy + Into<i64>,
    N: TryFrom<W>,
{
    let convert = |(index, value): (usize, W)| {
        N::try_from(value).map_err(|_| TooWide { index, value: value.into() })
    };
    wide.into_iter().enumerate().map(convert).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        assert_eq!(narrow::<i8, i32>(vec![-128, 0, 127]), Ok(vec![-128, 0, 127]));
        assert_eq!(narrow::<i8, i32>(vec![1, 128]), Err(TooWide { index: 1, value: 128 }));
        assert_eq!(narrow::<u8, u32>(vec![255]), Ok(vec![255]));
        assert_eq!(narrow::<u16, i32>(vec![-1]), Err(TooWide { index: 0, value: -1 }));
        assert_eq!(narrow::<u16, u32>(vec![]), Ok(vec![]));
    }
}
