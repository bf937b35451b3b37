//! Certificates and kubeconfigs, made anew for each cluster.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::layout::{CONTROL_PLANE, Layout, NodeLayout};

/// Where every client finds the API server.
fn server() -> String {
    format!("https://{CONTROL_PLANE}:6443")
}

/// Signs for one certificate authority.
pub(crate) struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// All that the control plane needs; returns the authority that nodes' certificates come from.
pub(crate) fn create(layout: &Layout) -> anyhow::Result<Authority> {
    let folder = layout.pki();
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let ca = authority(&folder, "ca", "trainyard-test-cluster")?;
    let names = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "127.0.0.1",
        "10.96.0.1",
        CONTROL_PLANE,
    ];
    certificate(&folder, &ca, "apiserver", "kube-apiserver", None, &names)?;
    for (name, user, group) in [
        ("admin", "trainyard-test-admin", Some("system:masters")),
        ("controller-manager", "system:kube-controller-manager", None),
        ("scheduler", "system:kube-scheduler", None),
        ("proxy", "system:kube-proxy", None),
    ] {
        client(&folder, &ca, name, user, group)?;
    }
    // Requests that the API server passes on to aggregated APIs; of an authority of their own, so
    // that no other certificate can speak for a user.
    let front = authority(&folder, "front-proxy-ca", "trainyard-test-front-proxy")?;
    certificate(&folder, &front, "front-proxy", "front-proxy-client", None, &[])?;

    let key = KeyPair::generate()?;
    secret(&folder.join("service-account.key"), &key.serialize_pem())?;
    fs::write(folder.join("service-account.pub"), key.public_key_pem())?;
    Ok(ca)
}

/// A kubelet's certificate, which is also what it serves with, and its kubeconfig.
pub(crate) fn create_node(ca: &Authority, node: &NodeLayout) -> anyhow::Result<()> {
    let (folder, name) = (node.cluster.pki(), node.name());
    let user = format!("system:node:{name}");
    let names = [name.as_str(), "localhost", "127.0.0.1", &node.address()];
    let (certificate, key) = certificate(&folder, ca, &name, &user, Some("system:nodes"), &names)?;
    kubeconfig(&folder, ca, &name, &certificate, &key)
}

fn authority(folder: &Path, file: &str, name: &str) -> anyhow::Result<Authority> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params.distinguished_name.push(DnType::CommonName, name);
    let certificate = params.self_signed(&key)?.pem();
    fs::write(folder.join(format!("{file}.crt")), &certificate)?;
    secret(&folder.join(format!("{file}.key")), &key.serialize_pem())?;
    Ok(Authority { certificate, issuer: Issuer::new(params, key) })
}

/// Writes a certificate for servers and clients; returns it and its key.
fn certificate(
    folder: &Path,
    ca: &Authority,
    file: &str,
    user: &str,
    group: Option<&str>,
    names: &[&str],
) -> anyhow::Result<(String, String)> {
    let key = KeyPair::generate()?;
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, user);
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, &ca.issuer)?.pem();
    let key = key.serialize_pem();
    fs::write(folder.join(format!("{file}.crt")), &certificate)?;
    secret(&folder.join(format!("{file}.key")), &key)?;
    Ok((certificate, key))
}

fn client(
    folder: &Path,
    ca: &Authority,
    file: &str,
    user: &str,
    group: Option<&str>,
) -> anyhow::Result<()> {
    let (certificate, key) = certificate(folder, ca, file, user, group, &[])?;
    kubeconfig(folder, ca, file, &certificate, &key)
}

/// Everything is inside the file, so that it can be copied and read from anywhere.
fn kubeconfig(
    folder: &Path,
    ca: &Authority,
    file: &str,
    certificate: &str,
    key: &str,
) -> anyhow::Result<()> {
    let text = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {
            "server": server(),
            "certificate-authority-data": base64(&ca.certificate),
        }}],
        "users": [{"name": file, "user": {
            "client-certificate-data": base64(certificate),
            "client-key-data": base64(key),
        }}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": file}}],
        "current-context": "test",
    });
    secret(&folder.join(format!("{file}.kubeconfig")), &format!("{text:#}\n"))
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn secret(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(())
}
