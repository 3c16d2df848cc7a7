//! Keys that ssh-keygen and openssl made, with the fingerprints that they tell; and keys that nobody can use.

use super::*;

const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGE/h4ykxtsMByP5CkJ8gtsg51o/Xho4k4k57a0ex97f c@h";
const ECDSA_256: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBByb0uJBgVSFD6Uv9HBfk2TKzPW4JjGS0ARx3i7RI5yVC4YiAL43Ax/J72J2dUzVIoQkjxJ5RMgMIUoVaFhGAOg= c@h";
const ECDSA_521: &str = "ecdsa-sha2-nistp521 AAAAE2VjZHNhLXNoYTItbmlzdHA1MjEAAAAIbmlzdHA1MjEAAACFBAEVXP9f1mCjD0XsJ4WjKPXLq3EoEMMY1XOmmkQBMWgMszhAUqTXbgXY8O0UwsbeHVu+a4nRejiwRQFdw0wPbF9sCADUoOs2/yqElTE0fJrUQYLAeGOX5b1W1mXsk84MBm81ZsQsLYphY0ByZ31+5KposJFslQYBMF6vvfzb0wD2zO50mA== c@h";
const RSA: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQCjdDLa5TTo1BPrtcSoJcxdbc+hVuGgisX4LT4P13jhDmNujn66Mz+a+SCLWXHi1UVkTcabflT6440Sh5WZnJJuQWufsLf88uip4TgZCxgWpstWZG/2d3mnHrSMHiXu+ihYBqUMjQi9sCcE+FiEo87EQH3VBdwh4MOu8WTLa6aT7adZ2sTg/GjnIKCMSmDycacTSfJgj5wwFGkNti0D0v0Cg/jDgUsSwzy+sPt6vux9KpTM6HrT0FQBUMyE85YIS2TwJEqgcvrFk2Zf9bUuBL7v7z8VWH4n88U838JVBDyh1nmxjBiQNH8THiFK6Xank7QbPx2QdvHZoKyglBkWdKkv c@h";
const X509: &str = "-----BEGIN CERTIFICATE-----\n\
MIIBbjCCAROgAwIBAgIUV++XoKeMUiwC6DbrcbnT1uSCH08wCgYIKoZIzj0EAwIw\n\
DDEKMAgGA1UEAwwBdTAeFw0yNjExMjQwMDA0NTNaFw0zNjExMjEwMDA0NTNaMAwx\n\
CjAIBgNVBAMMAXUwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARVrDXuDGteRvjL\n\
cLZpL4CehD0UCAPT5/AV4IB4PE0TWfARNA45bWOQ+AaU6mEX3n5Z6TA3KKH1G/5i\n\
+gMQD/Dqo1MwUTAdBgNVHQ4EFgQUIsA2zGLlVyKlgQK3d7nXT7jU+1MwHwYDVR0j\n\
BBgwFoAUIsA2zGLlVyKlgQK3d7nXT7jU+1MwDwYDVR0TAQH/BAUwAwEB/zAKBggq\n\
hkjOPQQDAgNJADBGAiEAwn3V4gayTR1ozkaH72p8XKJFm5YjfonSW1Yl45oXovwC\n\
IQCUbb6sQ4JDr1iDlmDkmw+3WuE7ro8aRGPijBkM+A/mqg==\n\
-----END CERTIFICATE-----";

/// A key of these parts under a name, which is also its first part.
fn of_parts(name: &str, parts: &[&[u8]]) -> String {
    let mut key = Vec::new();
    for part in [&[name.as_bytes()], parts].concat() {
        key.extend(u32::try_from(part.len()).unwrap().to_be_bytes());
        key.extend(part);
    }
    format!("{name} {}", STANDARD.encode(key))
}

#[test]
fn fingerprints_are_those_that_other_tools_tell() {
    let check = |kind, text: &str, want: &str| assert_eq!(fingerprint(kind, text), Ok(want.to_owned()), "{text}");
    check(KeyKind::Ssh, ED25519, "ba:3a:6f:37:26:09:ee:5c:fc:fb:14:6b:28:ed:c8:be");
    check(KeyKind::Ssh, ECDSA_256, "65:ed:e2:70:46:27:7a:f2:fb:cd:2d:cb:37:5b:28:45");
    check(KeyKind::Ssh, ECDSA_521, "49:15:c2:9a:6e:55:f0:3e:f0:2e:6e:54:da:5d:36:b1");
    check(KeyKind::Ssh, RSA, "e2:4c:e5:f4:7d:e0:7f:22:af:77:32:59:20:12:60:79");
    check(KeyKind::Ssh, &format!("{ED25519} and more\n"), "ba:3a:6f:37:26:09:ee:5c:fc:fb:14:6b:28:ed:c8:be");
    check(KeyKind::X509, X509, "8e:7f:25:eb:45:5e:6e:73:e7:4a:4e:b3:9c:a9:9f:ae:20:93:88:65");
    check(KeyKind::X509, &format!("{X509}\n"), "8e:7f:25:eb:45:5e:6e:73:e7:4a:4e:b3:9c:a9:9f:ae:20:93:88:65");
}

#[test]
fn a_key_that_no_guest_could_read_is_refused() {
    let check = |text: &str, good: bool| assert_eq!(fingerprint(KeyKind::Ssh, text).is_ok(), good, "{text}");
    let body = |key: &str| key.split(' ').nth(1).unwrap().to_owned();
    for bad in ["", " ", "ssh-rsa", "ssh-rsa JUNK nova@ubuntu", "ssh-rsa !!!!", "pgp AAAA", X509] {
        check(bad, false);
    }
    check(&format!("ssh-rsa {} openstack@ubuntu", "A".repeat(2048)), false);
    check(&format!("ssh-rsa {}", body(ED25519)), false);
    check(&body(ED25519), false);
    check(&RSA[..200], false);

    check(&of_parts("ssh-ed25519", &[&[1; 32]]), true);
    check(&of_parts("ssh-ed25519", &[&[1; 31]]), false);
    check(&of_parts("ssh-ed25519", &[&[1; 32], &[1]]), false);
    check(&of_parts("ssh-ed25519", &[]), false);
    check(&of_parts("ssh-rsa", &[&[3], &[0, 0x81, 1]]), true);
    check(&of_parts("ssh-rsa", &[&[3], &[0x81, 1]]), false);
    check(&of_parts("ssh-rsa", &[&[3], &[0]]), false);
    check(&of_parts("ssh-rsa", &[&[3], &[]]), false);
    check(&of_parts("ssh-rsa", &[&[3]]), false);
    check(&of_parts("ssh-dss", &[&[1], &[1], &[1], &[1]]), true);
    check(&of_parts("sk-ssh-ed25519@openssh.com", &[&[1; 32], b"ssh:"]), true);
    check(&of_parts("ecdsa-sha2-nistp256", &[b"nistp256", &[4; 65]]), true);
    check(&of_parts("ecdsa-sha2-nistp256", &[b"nistp384", &[4; 65]]), false);
    check(&of_parts("ecdsa-sha2-nistp256", &[b"nistp256", &[3; 65]]), false);
    check(&of_parts("ssh-ed25519-cert-v01@openssh.com", &[&[1; 32]]), false);
    assert_eq!(fingerprint(KeyKind::Ssh, &format!("{ED25519} {}", "x".repeat(BYTES_MAX))), Err(BadKey::TooLong));
}

#[test]
fn a_certificate_that_is_none_is_refused() {
    let check = |text: &str| assert!(matches!(fingerprint(KeyKind::X509, text), Err(BadKey::X509(_))), "{text}");
    check("");
    check(ED25519);
    check(&X509.replace("CERTIFICATE", "PUBLIC KEY"));
    check(&X509[..300]);
    check("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let told = fingerprint(KeyKind::X509, "").unwrap_err().to_string();
    assert!(told.starts_with("failed to generate X509 fingerprint. Error message: "), "{told}");
}
