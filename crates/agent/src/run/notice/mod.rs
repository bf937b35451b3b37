//! Notices of interruption: what a cloud's metadata service says before it takes a machine.
//!
//! One file a cloud. Each knows what to ask and what an answer means; asking is done here.

mod aws;
mod azure;
mod gcp;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::ask::ask;

/// The metadata service of all three clouds.
pub const METADATA: SocketAddr =
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(169, 254, 169, 254), 80));

/// What AWS recommends; a notice of 30 s, as the others give, leaves enough after it.
const EVERY: Duration = Duration::from_secs(5);

/// Whose metadata service is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cloud {
    Aws,
    Gcp,
    Azure,
    /// The first of them that answers as it should.
    Any,
}

/// That a machine is about to be taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notice {
    /// `aws`, `gcp` or `azure`.
    pub cloud: String,
    /// What it says that it does, in its own word.
    pub action: String,
    /// When, as it writes it; none where it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "notice of {}: {}", self.cloud, self.action)?;
        self.at.as_ref().map_or(Ok(()), |at| write!(f, " at {at}"))
    }
}

/// What a look at the metadata service gave.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Look {
    /// It is that cloud, and leaves the machine alone.
    Nothing,
    Notice(Notice),
    /// It is not that cloud, or does not answer just now.
    NoAnswer,
}

/// Looks until there is a notice, and tells it once. Ends when nobody listens.
pub(super) async fn look(
    mut cloud: Cloud,
    metadata: SocketAddr,
    tell: watch::Sender<Option<Notice>>,
) {
    let mut asker = Asker { metadata, aws_token: None, azure_name: None };
    while !tell.is_closed() {
        let asked = match cloud {
            Cloud::Any => vec![Cloud::Aws, Cloud::Gcp, Cloud::Azure],
            known => vec![known],
        };
        for one in asked {
            let look = match one {
                Cloud::Aws => aws::look(&mut asker).await,
                Cloud::Gcp => gcp::look(&mut asker).await,
                Cloud::Azure | Cloud::Any => azure::look(&mut asker).await,
            };
            match look {
                Look::Notice(notice) => {
                    tell.send_replace(Some(notice));
                    return;
                }
                Look::Nothing => {
                    cloud = one;
                    break;
                }
                Look::NoAnswer => {}
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Asks one metadata service, and remembers what has to be asked once.
struct Asker {
    metadata: SocketAddr,
    aws_token: Option<String>,
    azure_name: Option<String>,
}

impl Asker {
    /// One question; the answer is its status and text.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        header: (&str, &str),
    ) -> io::Result<(StatusCode, String)> {
        ask(self.metadata, method, path, Some(header)).await
    }
}

#[cfg(test)]
mod tests;
