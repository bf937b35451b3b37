//! The webhook's certificates, and when which is replaced.
//!
//! An authority of its own signs the certificate that the webhook serves with. The authority's
//! successor is told to the API server long before anything is signed with it, and the one before
//! is kept until it ends, so that at no moment an answer is signed by somebody unknown.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde::{Deserialize, Serialize};

/// An authority lives so many times longer than what it signs. Replaced when a third of its life is
/// left, it outlives everything that it has signed.
const AUTHORITY_LIVES: u32 = 4;
/// Clocks of API servers may be behind ours.
const SKEW: Duration = Duration::from_secs(3600);

/// A certificate with its key, both in PEM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Signed {
    pub(super) certificate: String,
    pub(super) key: String,
    /// Seconds since 1970.
    expires: u64,
}

/// All that is kept in the Secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Keys {
    /// Signs the next certificate.
    authority: Signed,
    /// The authority before, which may have signed the present one.
    before: Option<Signed>,
    pub(super) serving: Signed,
}

impl Keys {
    /// The first ones.
    pub(super) fn new(
        names: &[String],
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Self, rcgen::Error> {
        let authority = authority(lifetime * AUTHORITY_LIVES, now)?;
        let serving = serving(&authority, names, lifetime, now)?;
        Ok(Self { authority, before: None, serving })
    }

    /// What is to be kept in place of these; `None` while all are good for long.
    ///
    /// One step at a time: between two, the API server must have been told [`Self::bundle`].
    pub(super) fn renewed(
        &self,
        names: &[String],
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Option<Self>, rcgen::Error> {
        let authorities = lifetime * AUTHORITY_LIVES;
        if left(&self.authority, now) < authorities / 3 {
            let authority = authority(authorities, now)?;
            let before = Some(self.authority.clone());
            return Ok(Some(Self { authority, before, serving: self.serving.clone() }));
        }
        if left(&self.serving, now) < lifetime / 3 {
            let serving = serving(&self.authority, names, lifetime, now)?;
            return Ok(Some(Self { serving, ..self.clone() }));
        }
        if self.before.as_ref().is_some_and(|before| left(before, now).is_zero()) {
            return Ok(Some(Self { before: None, ..self.clone() }));
        }
        Ok(None)
    }

    /// The authorities that the API server is to believe, in PEM.
    pub(super) fn bundle(&self) -> String {
        let before = self.before.as_ref().map(|before| before.certificate.as_str());
        [self.authority.certificate.as_str()].into_iter().chain(before).collect()
    }
}

fn left(signed: &Signed, now: SystemTime) -> Duration {
    Duration::from_secs(signed.expires.saturating_sub(seconds(now)))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Sets when a certificate is good; answers its end.
fn limit(params: &mut CertificateParams, lifetime: Duration, now: SystemTime) -> u64 {
    params.not_before = (now - SKEW).into();
    params.not_after = (now + lifetime).into();
    seconds(now + lifetime)
}

fn authority(lifetime: Duration, now: SystemTime) -> Result<Signed, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = authority_params();
    let expires = limit(&mut params, lifetime, now);
    let certificate = params.self_signed(&key)?.pem();
    Ok(Signed { certificate, key: key.serialize_pem(), expires })
}

/// All but its life: what is signed by it depends on name and key only.
fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "trainyard-lint");
    params
}

fn serving(
    authority: &Signed,
    names: &[String],
    lifetime: Duration,
    now: SystemTime,
) -> Result<Signed, rcgen::Error> {
    let issuer = Issuer::new(authority_params(), KeyPair::from_pem(&authority.key)?);
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names.to_vec())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "trainyard-lint");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let expires = limit(&mut params, lifetime.min(left(authority, now)), now);
    let certificate = params.signed_by(&key, &issuer)?.pem();
    Ok(Signed { certificate, key: key.serialize_pem(), expires })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);
    const LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);

    /// Looks once a day for three years.
    #[test]
    fn who_signed_is_always_known_for_a_day_before_it_serves() {
        let names = ["a.b.svc".to_owned()];
        let mut now = SystemTime::UNIX_EPOCH + DAY * 20_000;
        let mut keys = Keys::new(&names, LIFETIME, now).unwrap();
        // By certificate: when it was signed with, and by whom.
        let (mut authorities, mut servings) = (0, 0);
        let mut signer = keys.authority.certificate.clone();
        for _ in 0..3 * 365 {
            let told = keys.bundle();
            now += DAY;
            let Some(next) = keys.renewed(&names, LIFETIME, now).unwrap() else { continue };
            if next.serving != keys.serving {
                servings += 1;
                signer = next.authority.certificate.clone();
                // Told before it signed.
                assert!(told.contains(&signer));
            }
            authorities += usize::from(next.authority != keys.authority);
            assert!(next.bundle().contains(&signer), "who signed is forgotten");
            keys = next;
            assert!(left(&keys.serving, now) > DAY * 29);
            assert!(keys.bundle().matches("BEGIN CERTIFICATE").count() <= 2);
        }
        // Every 61 and every 241 days.
        assert!((17..=18).contains(&servings), "{servings}");
        assert_eq!(authorities, 4);
    }

    #[test]
    fn keys_are_kept_as_they_are() {
        let now = SystemTime::now();
        let keys = Keys::new(&["a.b.svc".to_owned()], LIFETIME, now).unwrap();
        let text = serde_json::to_string(&keys).unwrap();
        assert_eq!(serde_json::from_str::<Keys>(&text).unwrap(), keys);
        assert_eq!(keys.renewed(&[], LIFETIME, now).unwrap(), None);
    }
}
