//! Reads clusters and workloads from CSV, in the columns of Alibaba's openb traces
//! (cluster-trace-gpu-v2023).

use csv::{ReaderBuilder, StringRecord, Trim};

use crate::models::Models;
use crate::node::{Capacity, Node};
use crate::request::{GpuRequest, MAX_GPUS, Request, WHOLE_GPU};

/// The most lines that are read of a file.
const MOST_ROWS: usize = 2_000_000;

/// What is wrong in a CSV file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// The text is no CSV.
    #[error("{file}:{line}: {message}; write one record a line, with as many fields as the header")]
    Csv {
        /// Name of the file.
        file: String,
        /// From 1.
        line: u64,
        /// What the parser says.
        message: String,
    },
    /// A column is not there.
    #[error("{file}:1: there is no column `{column}`; the header needs {needed}")]
    NoColumn {
        /// Name of the file.
        file: String,
        /// The one that is missed.
        column: &'static str,
        /// All that are needed.
        needed: String,
    },
    /// A field cannot be read.
    #[error("{file}:{line}: column `{column}` is `{value}`, not {expected}")]
    Field {
        /// Name of the file.
        file: String,
        /// From 1.
        line: u64,
        /// Its column.
        column: &'static str,
        /// What stands there.
        value: String,
        /// What should.
        expected: String,
    },
    /// Nothing follows the header.
    #[error("{file}: there is nothing below the header; write one record a line")]
    Empty {
        /// Name of the file.
        file: String,
    },
    /// More than [`MOST_ROWS`] records.
    #[error("{file}:{line}: more than {MOST_ROWS} records are not read; split the file")]
    TooLong {
        /// Name of the file.
        file: String,
        /// The first line too many.
        line: u64,
    },
}

/// A node with its name.
#[derive(Clone, Debug)]
pub struct NamedNode {
    /// Its name, the `sn` of the trace.
    pub name: String,
    /// The node, empty.
    pub node: Node,
}

/// A pod of a trace.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// What it asks for.
    pub request: Request,
    /// When it comes, in seconds; `None` where the trace does not say.
    pub arrival: Option<u64>,
    /// How long it runs once it has started, in seconds: from `scheduled_time` (or, where it was
    /// never scheduled, from `creation_time`) to `deletion_time`.
    pub duration: Option<u64>,
}

/// Reads nodes, ordered by name: where a policy finds two equal, the first name wins.
pub fn read_nodes(
    file: &str,
    text: &[u8],
    models: &mut Models,
) -> Result<Vec<NamedNode>, TraceError> {
    const COLUMNS: [&str; 5] = ["sn", "cpu_milli", "memory_mib", "gpu", "model"];
    let mut table = Table::open(file, text, &COLUMNS, &[])?;
    let mut nodes = Vec::new();
    while table.next()? {
        let gpus = table.number("gpu", 0..=MAX_GPUS as u64)?;
        let model = match table.text("model") {
            "" => None,
            name => Some(models.model(name).map_err(|error| table.field("model", error))?),
        };
        let capacity = Capacity {
            cpu_milli: table.amount("cpu_milli")?,
            memory_mib: table.amount("memory_mib")?,
            gpus: u8::try_from(gpus).expect("at most MAX_GPUS"),
            model: model.filter(|_| gpus > 0),
        };
        nodes.push(NamedNode { name: table.text("sn").to_owned(), node: Node::empty(capacity) });
    }
    if nodes.is_empty() {
        return Err(TraceError::Empty { file: file.to_owned() });
    }
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(nodes)
}

/// Reads pods, in the order of the file.
pub fn read_pods(file: &str, text: &[u8], models: &mut Models) -> Result<Vec<Pod>, TraceError> {
    const COLUMNS: [&str; 5] = ["name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli"];
    const OPTIONAL: [&str; 4] = ["gpu_spec", "creation_time", "deletion_time", "scheduled_time"];
    let mut table = Table::open(file, text, &COLUMNS, &OPTIONAL)?;
    let mut pods = Vec::new();
    while table.next()? {
        let count = table.number("num_gpu", 0..=MAX_GPUS as u64)?;
        let whole = u64::from(WHOLE_GPU);
        let gpu = match count {
            0 => GpuRequest::None,
            1 => match table.number("gpu_milli", 1..=whole)? {
                milli if milli == whole => GpuRequest::Whole(1),
                milli => GpuRequest::Share(u16::try_from(milli).expect("at most a thousand")),
            },
            // Of several GPUs all are whole.
            count => {
                table.number("gpu_milli", whole..=whole)?;
                GpuRequest::Whole(u8::try_from(count).expect("at most MAX_GPUS"))
            }
        };
        let models =
            models.set(table.text("gpu_spec")).map_err(|error| table.field("gpu_spec", error))?;
        let arrival = table.time("creation_time")?;
        let started = table.time("scheduled_time")?.or(arrival);
        let duration = match (started, table.time("deletion_time")?) {
            (Some(start), Some(end)) => Some(end.checked_sub(start).ok_or_else(|| {
                table.field("deletion_time", format!("a time from {start} on, when the pod starts"))
            })?),
            _ => None,
        };
        let request = Request {
            cpu_milli: table.amount("cpu_milli")?,
            memory_mib: table.amount("memory_mib")?,
            gpu,
            models,
        };
        pods.push(Pod { name: table.text("name").to_owned(), request, arrival, duration });
    }
    if pods.is_empty() {
        return Err(TraceError::Empty { file: file.to_owned() });
    }
    Ok(pods)
}

/// A CSV file with named columns, a record at a time.
pub(crate) struct Table<'a> {
    file: &'a str,
    reader: csv::Reader<&'a [u8]>,
    columns: Vec<(&'static str, Option<usize>)>,
    record: StringRecord,
    line: u64,
    rows: usize,
}

impl<'a> Table<'a> {
    pub(crate) fn open(
        file: &'a str,
        text: &'a [u8],
        needed: &[&'static str],
        optional: &[&'static str],
    ) -> Result<Self, TraceError> {
        let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
        let mut reader = ReaderBuilder::new().trim(Trim::All).comment(Some(b'#')).from_reader(text);
        let header = reader.headers().map_err(|error| broken(file, &error))?.clone();
        let place = |column: &str| header.iter().position(|name| name == column);
        if let Some(column) = needed.iter().find(|column| place(column).is_none()) {
            return Err(TraceError::NoColumn {
                file: file.to_owned(),
                column,
                needed: needed.join(", "),
            });
        }
        let columns = needed.iter().chain(optional).map(|name| (*name, place(name))).collect();
        Ok(Self { file, reader, columns, record: StringRecord::new(), line: 1, rows: 0 })
    }

    /// Goes to the next record; false where there is none.
    pub(crate) fn next(&mut self) -> Result<bool, TraceError> {
        let more = self.reader.read_record(&mut self.record);
        let more = more.map_err(|error| broken(self.file, &error))?;
        self.line = self.record.position().map_or(self.line, csv::Position::line);
        self.rows += 1;
        if more && self.rows > MOST_ROWS {
            return Err(TraceError::TooLong { file: self.file.to_owned(), line: self.line });
        }
        Ok(more)
    }

    /// The field of a column; empty where there is no such column.
    pub(crate) fn text(&self, column: &str) -> &str {
        let place = self.columns.iter().find(|(name, _)| *name == column).and_then(|it| it.1);
        place.and_then(|at| self.record.get(at)).unwrap_or_default()
    }

    /// The error of a field.
    pub(crate) fn field(&self, column: &'static str, expected: impl ToString) -> TraceError {
        TraceError::Field {
            file: self.file.to_owned(),
            line: self.line,
            column,
            value: self.text(column).chars().take(60).collect(),
            expected: expected.to_string(),
        }
    }

    pub(crate) fn number(
        &self,
        column: &'static str,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<u64, TraceError> {
        let number = self.text(column).parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| {
            let (low, high) = (range.start(), range.end());
            let expected = match low == high {
                true => format!("{low}"),
                false => format!("a whole number from {low} to {high}"),
            };
            self.field(column, expected)
        })
    }

    fn amount(&self, column: &'static str) -> Result<u32, TraceError> {
        let amount = self.number(column, 0..=u64::from(u32::MAX))?;
        Ok(u32::try_from(amount).expect("in range"))
    }

    /// Dollars; an empty field is no price.
    pub(crate) fn price(&self, column: &'static str) -> Result<Option<f64>, TraceError> {
        match self.text(column) {
            "" => Ok(None),
            text => match text.parse::<f64>() {
                Ok(price) if (0.0..=1e6).contains(&price) => Ok(Some(price)),
                _ => Err(self.field(column, "a price in dollars an hour")),
            },
        }
    }

    /// Seconds, in whole ones; an empty field is no time.
    fn time(&self, column: &'static str) -> Result<Option<u64>, TraceError> {
        // Spreadsheets and data frames write whole numbers with a fraction where some are missing.
        let text = self.text(column);
        let whole = text.strip_suffix(".0").unwrap_or(text);
        match whole {
            "" => Ok(None),
            _ => match whole.parse::<u64>() {
                // Sums of such times do not overflow.
                Ok(time) if time <= u64::from(u32::MAX) * 1000 => Ok(Some(time)),
                _ => Err(self.field(column, "a time in seconds")),
            },
        }
    }
}

fn broken(file: &str, error: &csv::Error) -> TraceError {
    let (line, message) = match error.kind() {
        csv::ErrorKind::UnequalLengths { pos, expected_len, len } => (
            pos.as_ref().map_or(0, csv::Position::line),
            format!("there are {len} fields where the header has {expected_len}"),
        ),
        csv::ErrorKind::Utf8 { pos, .. } => {
            (pos.as_ref().map_or(0, csv::Position::line), "the text is not UTF-8".to_owned())
        }
        _ => (error.position().map_or(0, csv::Position::line), error.to_string()),
    };
    TraceError::Csv { file: file.to_owned(), line, message }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER: &str = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,creation_time,deletion_time,scheduled_time";

    #[test]
    fn pods_are_read() {
        let text = format!(
            "\u{feff}{HEADER}\r\na, 6000 ,12288,1,460,,10,100,40.0\nb,0,0,0,0,T4|A10,,,\nc,1,1,2,1000,,5,9,\n"
        );
        let mut models = Models::default();
        let pods = read_pods("t.csv", text.as_bytes(), &mut models).expect("right");
        let seen: Vec<_> = pods
            .iter()
            .map(|it| (it.name.as_str(), it.request.gpu, it.arrival, it.duration))
            .collect();
        assert_eq!(
            seen,
            [
                ("a", GpuRequest::Share(460), Some(10), Some(60)),
                ("b", GpuRequest::None, None, None),
                ("c", GpuRequest::Whole(2), Some(5), Some(4)),
            ]
        );
        assert_eq!(models.count(), 2);
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        #[track_caller]
        fn check(rows: &str, expected: &str) {
            let text = format!("{HEADER}\n{rows}");
            let error = read_pods("t.csv", text.as_bytes(), &mut Models::default());
            assert_eq!(error.expect_err("wrong").to_string(), expected);
        }
        check("", "t.csv: there is nothing below the header; write one record a line");
        check(
            "a,1,1,0,0,,,,\nb,-1,1,0,0,,,,\n",
            "t.csv:3: column `cpu_milli` is `-1`, not a whole number from 0 to 4294967295",
        );
        check(
            "a,1,1,17,1000,,,,\n",
            "t.csv:2: column `num_gpu` is `17`, not a whole number from 0 to 16",
        );
        check("a,1,1,2,500,,,,\n", "t.csv:2: column `gpu_milli` is `500`, not 1000");
        check(
            "a,1,1,1,0,,,,\n",
            "t.csv:2: column `gpu_milli` is `0`, not a whole number from 1 to 1000",
        );
        check(
            "a,1,1,0,0,,20,10,\n",
            "t.csv:2: column `deletion_time` is `10`, not a time from 20 on, when the pod starts",
        );
        check(
            "a,1,1,0,0,,soon,,\n",
            "t.csv:2: column `creation_time` is `soon`, not a time in seconds",
        );
        check(
            "a,1,1\n",
            "t.csv:2: there are 3 fields where the header has 9; write one record a line, with as many fields as the header",
        );
        let nodes = |text: &str| read_nodes("n.csv", text.as_bytes(), &mut Models::default());
        assert_eq!(
            nodes("sn,cpu_milli,gpu,model\n").expect_err("wrong").to_string(),
            "n.csv:1: there is no column `memory_mib`; the header needs sn, cpu_milli, memory_mib, gpu, model"
        );
        let sorted = nodes("sn,cpu_milli,memory_mib,gpu,model\nb,1,1,8,T4\na,1,1,0,\n");
        let names: Vec<String> = sorted.expect("right").into_iter().map(|it| it.name).collect();
        assert_eq!(names, ["a", "b"]);
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_pods("t.csv", &text, &mut Models::default());
            let _ = read_nodes("t.csv", &text, &mut Models::default());
            let mut rows = HEADER.as_bytes().to_vec();
            rows.push(b'\n');
            rows.extend(text);
            let _ = read_pods("t.csv", &rows, &mut Models::default());
        }
    }
}
