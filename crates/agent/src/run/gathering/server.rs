//! Asks a name server whether there is a name, past what it and those before it keep in mind.
//!
//! A server of names that was asked too early says for a while that there is no such name, to whoever
//! asks: for 5 s as CoreDNS comes, for 30 s with the settings that kubeadm gives it. Caches tell answers
//! apart by name and type (RFC 2308, 5), so each question here is for another of the types that are left
//! to private use: there is no record of such a type, but the answer says whether there is the name.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ring::rand::{self, SystemRandom};
use tokio::net::UdpSocket;
use tokio::time::timeout;

const PORT: u16 = 53;
/// An answer from within a cluster takes a millisecond.
const ANSWER: Duration = Duration::from_secs(1);
/// The types left to private use, the last excluded (RFC 6895, 3.1).
const TYPES: std::ops::Range<u16> = 65280..65535;
/// Longest answer over UDP without an extension (RFC 1035, 4.2.1).
const LONGEST_ANSWER: usize = 512;
/// Longest label, and longest name as it is sent (RFC 1035, 2.3.4).
const LONGEST_LABEL: usize = 63;
const LONGEST_NAME: usize = 255;
const HEADER: usize = 12;
/// Of the Internet.
const CLASS: u16 = 1;

/// A name server, and what it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    address: SocketAddr,
    /// Appended to a name one after another, until one is known.
    domains: Vec<String>,
}

/// What a server says of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Known,
    Unknown,
}

impl Server {
    /// The first server in a resolver's settings (`resolv.conf`); none if none is named.
    pub(super) fn from(settings: &str) -> Option<Self> {
        let mut address = None;
        let mut domains = Vec::new();
        for line in settings.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let server = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    address = address.or(server);
                }
                // The last one holds, as for the C library.
                Some("search" | "domain") => domains = words.map(str::to_owned).collect(),
                _ => {}
            }
        }
        Some(Self { address: SocketAddr::new(address?, PORT), domains })
    }

    /// Whether it knows that name in one of its domains; none if it does not say.
    pub(super) async fn ask(&self, name: &str) -> Option<Word> {
        let mut word = None;
        let absolute = [String::new()];
        let domains = if self.domains.is_empty() { &absolute[..] } else { &self.domains };
        for domain in domains {
            let asked = timeout(ANSWER, self.ask_for(&format!("{name}.{domain}"))).await;
            match asked.ok()?.ok()? {
                Some(Word::Known) => return Some(Word::Known),
                Some(Word::Unknown) => word = Some(Word::Unknown),
                None => {}
            }
        }
        word
    }

    async fn ask_for(&self, name: &str) -> io::Result<Option<Word>> {
        let Some(question) = Question::new(name) else { return Ok(None) };
        let own: IpAddr = match self.address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((own, 0)).await?;
        socket.connect(self.address).await?;
        socket.send(&question.0).await?;
        let mut answer = [0; LONGEST_ANSWER];
        loop {
            let length = socket.recv(&mut answer).await?;
            if let Some(code) = question.answered_by(&answer[..length]) {
                return Ok(word(code));
            }
        }
    }
}

/// What a response code says of a name (RFC 1035, 4.1.1).
fn word(code: u8) -> Option<Word> {
    match code {
        0 => Some(Word::Known),
        3 => Some(Word::Unknown),
        _ => None,
    }
}

/// A question as it is sent.
struct Question(Vec<u8>);

impl Question {
    /// None if that can be no name.
    fn new(name: &str) -> Option<Self> {
        let random: [u8; 4] = rand::generate(&SystemRandom::new()).ok()?.expose();
        let [id_high, id_low, of_type, _] = random;
        let of_type = TYPES.start + u16::from(of_type) % (TYPES.end - TYPES.start);
        // Recursion is desired; one question.
        let mut bytes = vec![id_high, id_low, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.trim_end_matches('.').split('.') {
            let length = u8::try_from(label.len()).ok()?;
            if !(1..=LONGEST_LABEL).contains(&label.len()) {
                return None;
            }
            bytes.push(length);
            bytes.extend_from_slice(label.as_bytes());
        }
        bytes.push(0);
        if bytes.len() - HEADER > LONGEST_NAME {
            return None;
        }
        bytes.extend_from_slice(&of_type.to_be_bytes());
        bytes.extend_from_slice(&CLASS.to_be_bytes());
        Some(Self(bytes))
    }

    /// The response code of an answer to it; none of any other packet.
    fn answered_by(&self, packet: &[u8]) -> Option<u8> {
        let (header, rest) = packet.split_at_checked(HEADER)?;
        let is_response = header[2] & 0x80 != 0;
        let is_mine = header[..2] == self.0[..2] && rest.starts_with(&self.0[HEADER..]);
        (is_response && is_mine).then_some(header[3] & 0x0f)
    }
}

#[cfg(test)]
impl Server {
    pub(super) fn at(address: SocketAddr, domains: &[&str]) -> Self {
        Self { address, domains: domains.iter().map(|domain| (*domain).to_owned()).collect() }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashMap;
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;

    use super::*;

    /// A server that keeps each answer in mind for ever, by name and type, and what it knows.
    pub(in crate::run::gathering) async fn that_forgets_nothing()
    -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let address = socket.local_addr().expect("its address");
        let known = Arc::new(Mutex::new(Vec::<String>::new()));
        let knows = known.clone();
        tokio::spawn(async move {
            let mut cache: HashMap<Vec<u8>, u8> = HashMap::new();
            let mut packet = [0; LONGEST_ANSWER];
            loop {
                let (length, from) = socket.recv_from(&mut packet).await.expect("a question");
                let question = packet[HEADER..length].to_vec();
                let name: Vec<&[u8]> = labels(&question);
                let name = String::from_utf8(name.join(&b'.')).expect("a name");
                let is_known = knows.lock().expect("names").contains(&name);
                let code = *cache.entry(question).or_insert(if is_known { 0 } else { 3 });
                packet[2] |= 0x80;
                packet[3] = code;
                // What is no answer to the question is no answer.
                socket.send_to(&packet[..HEADER], from).await.expect("sent");
                socket.send_to(&packet[..length], from).await.expect("sent");
            }
        });
        (address, known)
    }

    fn labels(mut rest: &[u8]) -> Vec<&[u8]> {
        let mut found = Vec::new();
        while let [length, tail @ ..] = rest
            && *length > 0
        {
            let (label, left) = tail.split_at(usize::from(*length));
            found.push(label);
            rest = left;
        }
        found
    }

    #[test]
    fn a_resolvers_settings() {
        let read = Server::from(
            "# by a kubelet\nsearch a.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\nnameserver 10.96.0.11\noptions ndots:5\n",
        );
        let address = SocketAddr::from(([10, 96, 0, 10], 53));
        assert_eq!(read, Some(Server::at(address, &["a.svc.cluster.local", "svc.cluster.local"])));
        assert_eq!(Server::from("search a\nnameserver fe80::1%eth0\n"), None);
        assert_eq!(Server::from(""), None);
    }

    #[tokio::test]
    async fn a_name_that_was_asked_for_too_early_is_known_when_it_is_there() {
        let (address, known) = that_forgets_nothing().await;
        let server = Server::at(address, &["other", "team.svc"]);
        assert_eq!(server.ask("line-1-0.line").await, Some(Word::Unknown));
        known.lock().expect("names").push("line-1-0.line.team.svc".to_owned());
        // Two of 255 types may be the same one.
        let mut words = Vec::new();
        for _ in 0..5 {
            words.push(server.ask("line-1-0.line").await);
        }
        assert!(words.contains(&Some(Word::Known)), "{words:?}");
        // Nobody can have this name, and nobody is asked.
        assert_eq!(server.ask("line..").await, None);
    }

    #[tokio::test]
    async fn nobody_there_says_nothing() {
        let nobody = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let address = nobody.local_addr().expect("its address");
        drop(nobody);
        assert_eq!(Server::at(address, &["a"]).ask("b").await, None);
    }

    proptest! {
        #[test]
        fn any_packet_and_any_name(packet in prop::collection::vec(any::<u8>(), 0..80), name in ".{0,300}") {
            if let Some(question) = Question::new(&name) {
                prop_assert_eq!(question.answered_by(&packet), None);
                let mut answer = question.0.clone();
                prop_assert_eq!(question.answered_by(&answer), None);
                answer[2] |= 0x80;
                answer[3] = 0x83;
                answer.extend(packet);
                prop_assert_eq!(question.answered_by(&answer), Some(3));
            }
        }

        #[test]
        fn any_settings(text in "(?s)((nameserver|search|domain) .{0,20}\n|.{0,10}\n){0,6}") {
            let _ = Server::from(&text);
        }
    }
}
