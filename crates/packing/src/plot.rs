//! Line charts as SVG.

use std::fmt::Write;

/// A line of a chart.
#[derive(Clone, Debug)]
pub struct Series {
    /// What the legend says.
    pub name: String,
    /// Points in order of x.
    pub points: Vec<(f64, f64)>,
}

/// A chart. Several stand below one another.
#[derive(Clone, Debug)]
pub struct Chart {
    /// What stands above it.
    pub title: String,
    /// What x is, with its unit.
    pub x: String,
    /// What y is, with its unit.
    pub y: String,
    /// Its lines.
    pub series: Vec<Series>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 168.0;
const TOP: f64 = 32.0;
const BOTTOM: f64 = 48.0;

/// The palette of Okabe and Ito, which people with colour blindness tell apart, and dashes for more.
const COLOURS: [&str; 7] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/// Draws charts below one another.
pub fn svg(charts: &[Chart]) -> String {
    let height = HEIGHT * charts.len() as f64;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (at, chart) in charts.iter().enumerate() {
        let _ = writeln!(text, "<g transform=\"translate(0 {})\">", HEIGHT * at as f64);
        draw(chart, &mut text);
        text.push_str("</g>\n");
    }
    text.push_str("</svg>\n");
    text
}

fn draw(chart: &Chart, text: &mut String) {
    let points = || chart.series.iter().flat_map(|series| &series.points);
    let finite = || points().filter(|(x, y)| x.is_finite() && y.is_finite());
    let x_ticks = ticks(finite().map(|it| it.0));
    let y_ticks = ticks(finite().map(|it| it.1));
    let span = |ticks: &[f64]| match (ticks.first(), ticks.last()) {
        (Some(low), Some(high)) if high > low => (*low, *high),
        _ => (0.0, 1.0),
    };
    let ((x_low, x_high), (y_low, y_high)) = (span(&x_ticks), span(&y_ticks));
    let right = WIDTH - RIGHT;
    let bottom = HEIGHT - BOTTOM;
    let place_x = |x: f64| LEFT + (x - x_low) / (x_high - x_low) * (right - LEFT);
    let place_y = |y: f64| bottom - (y - y_low) / (y_high - y_low) * (bottom - TOP);
    let middle = (LEFT + right) / 2.0;
    let _ = writeln!(
        text,
        "<text x=\"{LEFT}\" y=\"20\" font-weight=\"bold\">{}</text>\n\
         <text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n\
         <text transform=\"translate(14 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        escape(&chart.title),
        HEIGHT - 12.0,
        escape(&chart.x),
        (TOP + bottom) / 2.0,
        escape(&chart.y),
    );
    for tick in &x_ticks {
        let x = place_x(*tick);
        let _ = writeln!(
            text,
            "<path d=\"M{x:.1} {TOP}V{bottom}\" stroke=\"#ddd\"/>\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            bottom + 16.0,
            number(*tick)
        );
    }
    for tick in &y_ticks {
        let y = place_y(*tick);
        let _ = writeln!(
            text,
            "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            y + 4.0,
            number(*tick)
        );
    }
    for (at, series) in chart.series.iter().enumerate() {
        let colour = COLOURS.get(at % COLOURS.len()).copied().unwrap_or("#000000");
        let dash = if at >= COLOURS.len() { " stroke-dasharray=\"5 3\"" } else { "" };
        let mut path = String::new();
        for (x, y) in series.points.iter().filter(|(x, y)| x.is_finite() && y.is_finite()) {
            let step = if path.is_empty() { 'M' } else { 'L' };
            let _ = write!(path, "{step}{:.1} {:.1}", place_x(*x), place_y(*y));
        }
        let y = TOP + 12.0 + 18.0 * at as f64;
        let _ = writeln!(
            text,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"{dash}/>\n\
             <path d=\"M{} {}h20\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/>\
             <text x=\"{}\" y=\"{y}\">{}</text>",
            right + 12.0,
            y - 4.0,
            right + 38.0,
            escape(&series.name)
        );
    }
}

/// Round numbers from the lowest value to the highest, about five of them; from 0 where that is
/// near.
fn ticks(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values {
        low = low.min(value);
        high = high.max(value);
    }
    if low > high {
        return Vec::new();
    }
    if low > 0.0 && low < 0.5 * high {
        low = 0.0;
    }
    let span = if high > low { high - low } else { low.abs().max(1.0) };
    let rough = span / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= rough)
        .unwrap_or(rough);
    let start = (low / step).floor();
    let end = (high.max(low + span) / step).ceil();
    // Steps are counted, so that no sum drifts.
    (0..=((end - start) as u32).min(20)).map(|at| (start + f64::from(at)) * step).collect()
}

fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        #[track_caller]
        fn check(values: &[f64], expected: &[f64]) {
            assert_eq!(ticks(values.iter().copied()), expected);
        }
        check(&[0.0, 100.0], &[0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        check(&[3.0, 17.0], &[0.0, 5.0, 10.0, 15.0, 20.0]);
        check(&[90.0, 96.0], &[90.0, 92.0, 94.0, 96.0]);
        check(&[5.0], &[5.0, 6.0, 7.0, 8.0, 9.0, 10.0]);
        check(&[], &[]);
    }

    #[test]
    fn names_cannot_break_the_picture() {
        let chart = Chart {
            title: "a < b & c".to_owned(),
            x: String::new(),
            y: String::new(),
            series: vec![Series {
                name: "<script>".to_owned(),
                points: vec![(0.0, 1.0), (f64::NAN, 2.0), (1.0, f64::INFINITY), (1.0, 3.0)],
            }],
        };
        let text = svg(&[chart]);
        assert!(text.contains("a &lt; b &amp; c") && !text.contains("<script>"));
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        assert_eq!(text.matches("<g ").count(), 1);
    }
}
