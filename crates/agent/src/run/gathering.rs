//! Waits until every worker has a name in the network, so that no program has to.
//!
//! A pod has a name once it runs, and workers start as nodes have room and images. Frameworks take a
//! connection that is refused for a sign to try again, and a name that nobody knows for a mistake.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// Between two looks. Name servers keep it in mind for a while that there is no such name.
const PAUSE: Duration = Duration::from_secs(1);
/// A resolver that is not reached gives up by itself, but only after many times this.
const LOOKUP: Duration = Duration::from_secs(5);

/// Whom to wait for.
#[derive(Debug, Clone)]
pub struct Gathering {
    pub hosts: Vec<String>,
    pub within: Duration,
}

impl Gathering {
    /// Returns once all have a name; else the first that has none, when the time is over.
    /// Cancel-safe.
    pub(super) async fn complete(&self) -> Result<(), String> {
        let deadline = Instant::now() + self.within;
        let mut has_told = false;
        for host in &self.hosts {
            while !has_name(host).await {
                if Instant::now() >= deadline {
                    return Err(format!(
                        "the worker `{host}` has no name in the network after {} s: it did not start, or names are not resolved here",
                        self.within.as_secs()
                    ));
                }
                if !std::mem::replace(&mut has_told, true) {
                    eprintln!("trainyard: waits for the worker {host}");
                }
                sleep(PAUSE).await;
            }
        }
        Ok(())
    }
}

async fn has_name(host: &str) -> bool {
    // The port is no part of the question.
    let looked = timeout(LOOKUP, tokio::net::lookup_host((host, 1))).await;
    looked.is_ok_and(|found| found.is_ok_and(|mut found| found.next().is_some()))
}

#[tokio::test]
async fn who_is_missing_is_told() {
    let of = |hosts: &[&str]| Gathering {
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        within: Duration::ZERO,
    };
    assert_eq!(of(&["127.0.0.1", "localhost"]).complete().await, Ok(()));
    let missing = of(&["localhost", "nobody.invalid"]).complete().await.unwrap_err();
    assert!(missing.starts_with("the worker `nobody.invalid` has no name"), "{missing}");
}
