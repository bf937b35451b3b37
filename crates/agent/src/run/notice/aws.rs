//! AWS: the instance metadata service, version 2 (a token first), and its `spot/instance-action`:
//! two minutes before an instance is stopped, hibernated or terminated.

use hyper::{Method, StatusCode};
use serde::Deserialize;

use super::{Asker, Look, Notice};

const TOKEN: &str = "/latest/api/token";
const ACTION: &str = "/latest/meta-data/spot/instance-action";
/// Seconds that a token may be used; six hours are the most that AWS gives.
const LIFETIME: &str = "21600";

#[derive(Deserialize)]
struct Action {
    action: String,
    time: Option<String>,
}

pub(super) async fn look(asker: &mut Asker) -> Look {
    let token = match asker.aws_token.clone() {
        Some(token) => token,
        None => {
            let header = ("X-aws-ec2-metadata-token-ttl-seconds", LIFETIME);
            let Ok((StatusCode::OK, token)) = asker.ask(Method::PUT, TOKEN, header).await else {
                return Look::NoAnswer;
            };
            asker.aws_token = Some(token.clone());
            token
        }
    };
    match asker.ask(Method::GET, ACTION, ("X-aws-ec2-metadata-token", &token)).await {
        Ok((StatusCode::OK, body)) => match serde_json::from_str::<Action>(&body) {
            Ok(Action { action, time }) => {
                Look::Notice(Notice { cloud: "aws".to_owned(), action, at: time })
            }
            Err(_) => Look::NoAnswer,
        },
        Ok((StatusCode::NOT_FOUND, _)) => Look::Nothing,
        Ok((StatusCode::UNAUTHORIZED, _)) => {
            // The token has expired.
            asker.aws_token = None;
            Look::Nothing
        }
        _ => Look::NoAnswer,
    }
}
