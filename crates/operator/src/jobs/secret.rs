//! The Secret that only the workers of one job have.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use ring::rand;
use trainyard_plan::kubernetes::TOKEN;

use crate::key::ResourceKey;
use crate::names::{JOB_LABEL, MANAGED_BY, MANAGED_BY_LABEL};

/// Random bytes of a token, which has two characters for each.
const RANDOM: usize = 32;

/// One with a new token, or why the system has none. It goes with its job.
pub(super) fn secret(
    key: &ResourceKey,
    name: &str,
    owner: &OwnerReference,
) -> Result<Secret, String> {
    let random: rand::Random<[u8; RANDOM]> = rand::generate(&rand::SystemRandom::new())
        .map_err(|_| "this machine gives no random bytes for a Secret".to_owned())?;
    let token: String = random.expose().iter().map(|byte| format!("{byte:02x}")).collect();
    let labels = [(JOB_LABEL, &*key.name), (MANAGED_BY_LABEL, MANAGED_BY)];
    Ok(Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(key.namespace.to_string()),
            labels: Some(labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
            owner_references: Some(vec![owner.clone()]),
            ..ObjectMeta::default()
        },
        // Workers of one start must not have two.
        immutable: Some(true),
        string_data: Some(BTreeMap::from([(TOKEN.to_owned(), token)])),
        ..Secret::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Declared;

    #[test]
    fn each_is_another() {
        let key = ResourceKey::new(Declared::TrainingJob, "ml", "digits");
        let owner = crate::desired::owner(&key, Some("u"));
        let made = || secret(&key, "digits-workers-1", &owner).expect("there are random bytes");
        let token = |secret: Secret| secret.string_data.unwrap_or_default()[TOKEN].clone();
        let (first, second) = (token(made()), token(made()));
        assert_ne!(first, second);
        assert!(first.len() == 64 && first.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let secret = made();
        assert_eq!(secret.immutable, Some(true));
        assert_eq!(secret.metadata.owner_references, Some(vec![owner.clone()]));
    }
}
