//! Figures over several runs.

/// Mean and standard deviation (of a sample) of a figure.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// The mean; 0 of nothing.
    pub mean: f64,
    /// The standard deviation; 0 of a single value.
    pub deviation: f64,
}

impl Spread {
    /// Of these values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.into_iter().collect();
        if values.is_empty() {
            return Self::default();
        }
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Self { mean, deviation: if count > 1.0 { (squares / (count - 1.0)).sqrt() } else { 0.0 } }
    }
}

#[test]
fn spread() {
    assert_eq!(Spread::of([]), Spread { mean: 0.0, deviation: 0.0 });
    assert_eq!(Spread::of([3.0]), Spread { mean: 3.0, deviation: 0.0 });
    assert_eq!(Spread::of([1.0, 3.0, 5.0]), Spread { mean: 3.0, deviation: 2.0 });
}
