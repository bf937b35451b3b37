//! The real binary against a small server that speaks the protocol and doubles its input.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const KEY: &str = "key-1";

/// A server of the model `double`: `x` FP32 [-1, 2] to `y`, the same shape.
struct Server {
    url: String,
    inferences: Arc<AtomicUsize>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let inferences = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&inferences);
        // Ends with the process: it holds nothing that must be given back.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let counter = Arc::clone(&counter);
                std::thread::spawn(move || drop(converse(stream.unwrap(), &counter)));
            }
        });
        Self { url, inferences }
    }
}

fn converse(mut stream: TcpStream, inferences: &AtomicUsize) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let (mut length, mut json_bytes, mut is_allowed) = (0, 0, false);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().unwrap(),
                "inference-header-content-length" => json_bytes = value.parse().unwrap(),
                "authorization" => is_allowed = value == format!("Bearer {KEY}"),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let (status, headers, body) = answer(&first, is_allowed, &body, json_bytes, inferences);
        let length = body.len();
        write!(stream, "HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\n\r\n")?;
        stream.write_all(&body)?;
    }
}

fn answer(
    first: &str,
    is_allowed: bool,
    body: &[u8],
    json_bytes: usize,
    inferences: &AtomicUsize,
) -> (u16, String, Vec<u8>) {
    let path = first.split(' ').nth(1).unwrap();
    if path.starts_with("/v2/models/private") && !is_allowed {
        return (401, String::new(), br#"{"error":"an API key is needed"}"#.to_vec());
    }
    if !path.contains("/double") && !path.contains("/private") {
        return (404, String::new(), br#"{"error":"unknown model 'none'"}"#.to_vec());
    }
    if !path.ends_with("/infer") {
        let metadata = r#"{"name":"double","versions":["1"],"platform":"p",
            "inputs":[{"name":"x","datatype":"FP32","shape":[-1,2]}],
            "outputs":[{"name":"y","datatype":"FP32","shape":[-1,2]}]}"#;
        return (200, String::new(), metadata.into());
    }
    inferences.fetch_add(1, Ordering::Relaxed);
    let request: serde_json::Value = serde_json::from_slice(&body[..json_bytes]).unwrap();
    let blob = &body[json_bytes..];
    let doubled: Vec<u8> = blob
        .chunks(4)
        .flat_map(|four| (f32::from_le_bytes(four.try_into().unwrap()) * 2.0).to_le_bytes())
        .collect();
    let head = serde_json::json!({
        "model_name": "double", "model_version": "1",
        "outputs": [{
            "name": "y", "datatype": "FP32", "shape": request["inputs"][0]["shape"],
            "parameters": {"binary_data_size": doubled.len()},
        }],
    })
    .to_string();
    let headers = format!("inference-header-content-length: {}\r\n", head.len());
    (200, headers, [head.as_bytes(), &doubled].concat())
}

/// Runs the binary in an empty folder with this on standard input.
fn trainyard(arguments: &[&str], url: &str, input: &[u8]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut child = command(folder.path())
        .args(arguments)
        .env("TRAINYARD_URL", url)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that refuses its arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trainyard"));
    command.current_dir(folder).env_remove("RUST_LOG").env_remove("TRAINYARD_API_KEY");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn data_in_any_form() {
    let server = Server::start();
    let expected = "{\"model_name\":\"double\",\"model_version\":\"1\",\"outputs\":[{\"name\":\"y\",\
                    \"datatype\":\"FP32\",\"shape\":[2,2],\"data\":[2.0,4.0,6.0,8.5]}]}\n";
    for input in [
        "[[1, 2], [3, 4.25]]",
        "a,b\n1,2\n3,4.25\n",
        r#"{"instances": [{"x": [1, 2]}, {"x": [3, 4.25]}]}"#,
        r#"{"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4.25]}]}"#,
    ] {
        let run = trainyard(&["predict", "double", "-i", "-"], &server.url, input.as_bytes());
        assert_eq!((text(&run.stdout), text(&run.stderr)), (expected.to_owned(), String::new()));
        assert_eq!(run.status.code(), Some(0));
    }
    // What it writes, it reads.
    let run =
        trainyard(&["predict", "double", "-i", "-", "-o", "npy"], &server.url, b"1,2\n3,4.25");
    let again =
        trainyard(&["predict", "double", "-i", "x=-", "-o", "table"], &server.url, &run.stdout);
    insta::assert_snapshot!(text(&again.stdout), @r"
       y
    0  [4, 8]
    1  [12, 17]
    ");
}

#[test]
fn mistakes_are_told() {
    let server = Server::start();
    let mut told = Vec::new();
    for (arguments, input) in [
        (&["predict", "double", "-i", "-"][..], "[[1, 2, 3]]"),
        (&["predict", "double", "-i", "-"], "a,b\n1,red\n"),
        (&["predict", "double", "-i", "z=-"], "[1, 2]"),
        (&["predict", "double", "-i", "-", "--select", "z"], "[1, 2]"),
        (&["predict", "none", "-i", "-"], "[1, 2]"),
        (&["predict", "private", "-i", "-"], "[1, 2]"),
        (&["predict", "double", "-i", "missing.csv"], ""),
        (&["predict", "double", "-i", "-", "--url", "http://127.0.0.1:1"], "[1, 2]"),
    ] {
        let run = trainyard(arguments, &server.url, input.as_bytes());
        assert_eq!(run.status.code(), Some(2), "{arguments:?}");
        assert!(run.stdout.is_empty());
        told.push(text(&run.stderr));
    }
    insta::assert_snapshot!(told.join(""), @r#"
      × standard input: input `x` takes FP32 of shape [-1, 2], but the data has
      │ shape [1, 3]
      help: -1 stands for any number

      × standard input: line 2, column `b`: "red" is no FP32

      × standard input: model `double` has no input `z`; it takes `x`

      × model `double` has no output `z`; it gives `y`

      × the server answered 404 Not Found: unknown model 'none'

      × the server answered 401 Unauthorized: an API key is needed
      help: give a key of this service with --api-key or TRAINYARD_API_KEY

      × cannot read missing.csv: No such file or directory (os error 2)

      × no server answers at http://127.0.0.1:1
      help: start it with `trainyard up`, or say where it is with --url or
            TRAINYARD_URL
    "#);
    let run =
        trainyard(&["predict", "private", "-i", "-", "--api-key", KEY], &server.url, b"[1, 2]");
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
}

#[test]
fn load_is_measured() {
    let server = Server::start();
    let bench = ["predict", "double", "-i", "-", "--bench", "--json", "-c", "4"];
    let short = ["--duration", "300ms", "--warmup", "50ms"];
    let run = trainyard(&[&bench[..], &short].concat(), &server.url, b"[1, 2]");
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    let report: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    let requests = report["requests"].as_u64().unwrap();
    assert!(requests > 50, "{report}");
    assert!(server.inferences.load(Ordering::Relaxed) as u64 >= requests);
    assert!(report["latency_ms"]["p50"].as_f64() <= report["latency_ms"]["max"].as_f64());

    let rate = ["--rate", "200"];
    let run = trainyard(&[&bench[..], &short, &rate].concat(), &server.url, b"[1, 2]");
    let report: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    let sent = report["requests"].as_u64().unwrap() + report["unsent"].as_u64().unwrap();
    assert!((50..=61).contains(&sent), "{report}");

    let text_report = trainyard(&[&bench[..5], &short].concat(), &server.url, b"[1, 2]");
    let shown = text(&text_report.stdout);
    assert!(
        shown.contains("p99.9") && shown.contains("requests/s") && shown.contains('#'),
        "{shown}"
    );
}

#[test]
fn failures_under_load_are_counted() {
    let run = trainyard(
        &["predict", "double", "-i", "-", "--bench", "--duration", "1s"],
        "http://127.0.0.1:1",
        b"[1, 2]",
    );
    assert_eq!(run.status.code(), Some(2), "the model's metadata comes first");
    let run =
        trainyard(&["predict", "double", "-i", "-", "--rate", "5"], "http://127.0.0.1:1", b"");
    assert!(text(&run.stderr).contains("--bench"), "a rate without --bench is a mistake");
}

#[test]
fn help_is_complete() {
    for (command, name) in
        [("predict", "help_predict"), ("inspect", "help_inspect"), ("engine", "help_engine")]
    {
        let run = command_help(command);
        insta::assert_snapshot!(name, run);
    }
}

fn command_help(name: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let run = command(folder.path()).args([name, "--help"]).env("COLUMNS", "100").output().unwrap();
    text(&run.stdout)
}
