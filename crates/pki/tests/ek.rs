//! EK certificates, good and bad, of a maker made for the test; the EKs are a software TPM's.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    time::{Duration, SystemTime},
};

use bootkeep_evidence::{key::KeyMaterial, EkPublic};
use bootkeep_pki::ek::{EkError, EkRoots};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SignatureAlgorithm, SigningKey,
};
use tempfile::TempDir;
use time::OffsetDateTime;
use x509_parser::prelude::parse_x509_certificate;

const RSA: &[u8] = include_bytes!("../../evidence/tests/data/ek-rsa.public");
const ECC: &[u8] = include_bytes!("../../evidence/tests/data/ek-ecc.public");
const EK_PURPOSE: &[u64] = &[2, 23, 133, 8, 1];

/// DER with a tag and contents of less than 64 KiB.
fn der(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = (contents.len() as u16).to_be_bytes();
    let head = match contents.len() {
        0..=127 => vec![tag, length[1]],
        128..=255 => vec![tag, 0x81, length[1]],
        _ => vec![tag, 0x82, length[0], length[1]],
    };
    [head, contents.to_vec()].concat()
}

/// The bare key of an EK, as certificates hold it.
struct EkKey(Vec<u8>, &'static SignatureAlgorithm);

impl EkKey {
    fn of(public: &[u8]) -> Self {
        let ek = EkPublic::parse(public).unwrap();
        match ek.material() {
            KeyMaterial::P256 { .. } => Self(
                ek.material().p256_point().unwrap().to_vec(),
                &rcgen::PKCS_ECDSA_P256_SHA256,
            ),
            KeyMaterial::Rsa { modulus, .. } => {
                let modulus = der(2, &[&[0], modulus.as_slice()].concat());
                let exponent = der(2, &[1, 0, 1]);
                Self(
                    der(0x30, &[modulus, exponent].concat()),
                    &rcgen::PKCS_RSA_SHA256,
                )
            }
        }
    }
}

impl PublicKeyData for EkKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }
    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.1
    }
}

fn day(offset: i64) -> OffsetDateTime {
    OffsetDateTime::now_utc() + time::Duration::days(offset)
}

fn params(name: &str, is_ca: IsCa) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = is_ca;
    (params.not_before, params.not_after) = (day(-10), day(10));
    params.use_authority_key_identifier_extension = true;
    params
}

fn authority(name: &str) -> CertificateParams {
    let mut params = params(name, IsCa::Ca(BasicConstraints::Unconstrained));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// As the profile wants it: no subject, a critical alternative name with maker, model and version.
fn leaf() -> CertificateParams {
    let mut params = params("", IsCa::NoCa);
    params.distinguished_name = DistinguishedName::new();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(EK_PURPOSE.to_vec())];
    let attribute = der(
        0x30,
        &[der(6, &[0x67, 0x81, 5, 2, 1]), der(0x0c, b"id:00001014")].concat(),
    );
    let name = der(0x30, &der(0x31, &attribute));
    let mut san = CustomExtension::from_oid_content(&[2, 5, 29, 17], der(0x30, &der(0xa4, &name)));
    san.set_criticality(true);
    params.custom_extensions = vec![san];
    params
}

/// A maker with a root and an intermediate.
struct Maker {
    root: Issuer<'static, KeyPair>,
    root_pem: String,
    intermediate: Issuer<'static, KeyPair>,
    intermediate_pem: String,
}

impl Maker {
    fn new() -> Self {
        Self::with(authority("maker's root"), authority("maker's intermediate"))
    }

    fn with(root: CertificateParams, intermediate: CertificateParams) -> Self {
        let (key, second) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let root_pem = root.self_signed(&key).unwrap().pem();
        let root = Issuer::new(root, key);
        let intermediate_pem = intermediate.signed_by(&second, &root).unwrap().pem();
        Self {
            root,
            root_pem,
            intermediate: Issuer::new(intermediate, second),
            intermediate_pem,
        }
    }

    fn certify(&self, params: &CertificateParams, ek: &[u8]) -> Vec<u8> {
        params
            .signed_by(&EkKey::of(ek), &self.intermediate)
            .unwrap()
            .der()
            .to_vec()
    }

    fn load(&self) -> Result<EkRoots, EkError> {
        roots_of(&[
            ("root.pem", self.root_pem.as_bytes()),
            ("middle.crt", self.intermediate_pem.as_bytes()),
        ])
    }

    fn roots(&self) -> EkRoots {
        self.load().unwrap()
    }

    /// The certificate with RSA keys under id-RSAES-OAEP, signed anew.
    fn under_oaep(&self, certificate: &[u8]) -> Vec<u8> {
        const RSA_ENCRYPTION: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
        let (_, parsed) = parse_x509_certificate(certificate).unwrap();
        let mut tbs = parsed.tbs_certificate.as_ref().to_vec();
        let place = tbs
            .windows(9)
            .position(|nine| nine == RSA_ENCRYPTION)
            .unwrap();
        tbs[place + 8] = 7;
        let signature = self.intermediate.key().sign(&tbs).unwrap();
        let ecdsa_sha256 = der(0x30, &der(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]));
        let signature = der(3, &[&[0], signature.as_slice()].concat());
        der(0x30, &[tbs, ecdsa_sha256, signature].concat())
    }
}

fn roots_of(files: &[(&str, &[u8])]) -> Result<EkRoots, EkError> {
    let folder = folder_with(files);
    EkRoots::load(folder.path())
}

fn folder_with(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, contents) in files {
        fs::write(folder.path().join(name), contents).unwrap();
    }
    folder
}

fn ek(public: &[u8]) -> EkPublic {
    EkPublic::parse(public).unwrap()
}

#[test]
fn a_makers_certificate_is_believed() {
    let maker = Maker::new();
    let roots = maker.roots();
    for public in [RSA, ECC] {
        let certificate = maker.certify(&leaf(), public);
        let chain = roots
            .verify(&certificate, &ek(public), SystemTime::now())
            .unwrap();
        assert_eq!(chain.certificate, certificate);
        assert!(chain.root.contains("maker's root"), "{}", chain.root);
        for padding in [&[0_u8; 1][..], &[0xff; 900]] {
            let padded = [certificate.as_slice(), padding].concat();
            let chain = roots
                .verify(&padded, &ek(public), SystemTime::now())
                .unwrap();
            assert_eq!(chain.certificate, certificate);
        }
    }
    // Directly under the root; without the purpose, which older certificates lack; RSA under OAEP.
    let certificate = leaf().signed_by(&EkKey::of(RSA), &maker.root).unwrap();
    assert!(roots
        .verify(certificate.der(), &ek(RSA), SystemTime::now())
        .is_ok());
    let mut params = leaf();
    params.extended_key_usages.clear();
    assert!(roots
        .verify(&maker.certify(&params, RSA), &ek(RSA), SystemTime::now())
        .is_ok());
    let oaep = maker.under_oaep(&maker.certify(&leaf(), RSA));
    roots.verify(&oaep, &ek(RSA), SystemTime::now()).unwrap();
}

/// Names are compared as bytes and never decoded: a SET in the wrong order does no harm.
#[test]
fn names_in_the_wrong_order_do_no_harm() {
    let maker = Maker::new();
    let attribute = |last: u8| {
        der(
            0x30,
            &[der(6, &[0x67, 0x81, 5, 2, last]), der(0x0c, b"id:1")].concat(),
        )
    };
    let unsorted = [attribute(3), attribute(1), attribute(2)].concat();
    let name = der(0x30, &der(0x31, &unsorted));
    let mut san = CustomExtension::from_oid_content(&[2, 5, 29, 17], der(0x30, &der(0xa4, &name)));
    san.set_criticality(true);
    let mut params = leaf();
    params.custom_extensions = vec![san];
    let certificate = maker.certify(&params, ECC);
    maker
        .roots()
        .verify(&certificate, &ek(ECC), SystemTime::now())
        .unwrap();
}

#[test]
fn what_is_not_in_order_is_refused() {
    let maker = Maker::new();
    let roots = maker.roots();
    let now = SystemTime::now();
    let refused = |certificate: &[u8], why: &str| {
        let error = roots.verify(certificate, &ek(RSA), now).unwrap_err();
        assert!(matches!(error, EkError::Chain(_)), "{why}: {error}");
        assert!(error.to_string().contains(why), "{why}: {error}");
    };
    let changed = |change: fn(&mut CertificateParams)| {
        let mut params = leaf();
        change(&mut params);
        maker.certify(&params, RSA)
    };
    refused(&changed(|params| params.not_after = day(-1)), "CertExpired");
    refused(
        &changed(|params| params.not_before = day(1)),
        "CertNotValidYet",
    );
    refused(
        &changed(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
        "CaUsedAsEndEntity",
    );
    let server = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]
    };
    refused(&changed(server), "RequiredEkuNotFound");
    let critical = |params: &mut CertificateParams| {
        let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        extension.set_criticality(true);
        params.custom_extensions.push(extension);
    };
    refused(&changed(critical), "UnsupportedCriticalExtension");
    // Another maker that calls itself the same.
    refused(&Maker::new().certify(&leaf(), RSA), "");
    // A byte of the signature.
    let mut forged = maker.certify(&leaf(), RSA);
    let last = forged.len() - 1;
    forged[last] ^= 1;
    refused(&forged, "");
    // Time runs out for chains too.
    let certificate = maker.certify(&leaf(), RSA);
    let later = now + Duration::from_secs(11 * 24 * 3600);
    assert!(matches!(
        roots.verify(&certificate, &ek(RSA), later),
        Err(EkError::Chain(_))
    ));
}

#[test]
fn only_authorities_sign() {
    for (name, root, intermediate) in [
        ("no CA", authority("r"), params("i", IsCa::ExplicitNoCa)),
        (
            "no basic constraints",
            authority("r"),
            params("i", IsCa::NoCa),
        ),
        ("may not sign certificates", authority("r"), {
            let mut params = params("i", IsCa::Ca(BasicConstraints::Unconstrained));
            params.key_usages = vec![KeyUsagePurpose::CrlSign];
            params
        }),
        ("expired", authority("r"), {
            let mut params = authority("i");
            params.not_after = day(-1);
            params
        }),
        (
            "root expired",
            {
                let mut params = authority("r");
                params.not_after = day(-1);
                params
            },
            authority("i"),
        ),
        (
            "root is no CA",
            params("r", IsCa::ExplicitNoCa),
            authority("i"),
        ),
        (
            "path too long",
            {
                let mut params = authority("r");
                params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
                params
            },
            authority("i"),
        ),
    ] {
        let maker = Maker::with(root, intermediate);
        let certificate = maker.certify(&leaf(), ECC);
        let answer = maker
            .load()
            .and_then(|roots| roots.verify(&certificate, &ek(ECC), SystemTime::now()));
        assert!(
            matches!(answer, Err(EkError::Chain(_) | EkError::Content { .. })),
            "{name}: {answer:?}"
        );
    }
}

#[test]
fn a_certificate_is_for_one_key() {
    let maker = Maker::new();
    let roots = maker.roots();
    let mut other = RSA.to_vec();
    let last = other.len() - 1;
    other[last] ^= 2;
    let certificate = maker.certify(&leaf(), RSA);
    for public in [ECC, other.as_slice()] {
        let answer = roots.verify(&certificate, &ek(public), SystemTime::now());
        assert!(matches!(answer, Err(EkError::OtherKey)), "{answer:?}");
    }
}

#[test]
fn every_cut_is_refused_and_none_panics() {
    let maker = Maker::new();
    let roots = maker.roots();
    let certificate = maker.certify(&leaf(), ECC);
    for length in 0..certificate.len() {
        assert!(
            roots
                .verify(&certificate[..length], &ek(ECC), SystemTime::now())
                .is_err(),
            "{length}"
        );
    }
    for index in 0..certificate.len() {
        let mut changed = certificate.clone();
        changed[index] ^= 0x20;
        assert!(
            roots.verify(&changed, &ek(ECC), SystemTime::now()).is_err(),
            "{index}"
        );
    }
}

#[test]
fn an_intermediate_alone_is_no_root() {
    let maker = Maker::new();
    let roots = roots_of(&[("middle.pem", maker.intermediate_pem.as_bytes())]).unwrap();
    assert_eq!(roots.roots(), 0);
    let certificate = maker.certify(&leaf(), RSA);
    assert!(matches!(
        roots.verify(&certificate, &ek(RSA), SystemTime::now()),
        Err(EkError::Chain(_))
    ));
}

#[test]
fn folders_are_read_whole_or_refused() {
    let maker = Maker::new();
    let both = [maker.root_pem.as_str(), maker.intermediate_pem.as_str()].concat();
    let (_, pem) = x509_parser::pem::parse_x509_pem(maker.root_pem.as_bytes()).unwrap();
    assert_eq!(
        roots_of(&[("all.pem", both.as_bytes())]).unwrap().roots(),
        1
    );
    assert_eq!(
        roots_of(&[("a.der", &pem.contents), ("README", b"text")])
            .unwrap()
            .roots(),
        1
    );
    assert_eq!(roots_of(&[]).unwrap().roots(), 0);
    let huge = vec![0x30; 1024 * 1024 + 1];
    for (name, contents) in [
        ("a.pem", &b"no certificate"[..]),
        ("a.der", b""),
        ("a.cer", &pem.contents[..40]),
        (
            "key.pem",
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ),
        ("huge.der", &huge),
    ] {
        let error =
            roots_of(&[("root.pem", maker.root_pem.as_bytes()), (name, contents)]).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
    assert!(matches!(
        EkRoots::load("/no/such/folder".as_ref()),
        Err(EkError::File { .. })
    ));
}
