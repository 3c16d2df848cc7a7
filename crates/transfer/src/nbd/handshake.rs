//! The first words with an NBD server: fixed newstyle, structured replies, meta contexts, NBD_OPT_GO.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use super::{fault::Fault, wire};

/// A server's answers are small; more is no NBD server.
const REPLY_BYTES_MAX: u32 = 64 << 10;
const REPLIES_MAX: usize = 1024;

/// What the server said of the export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    pub size: u64,
    pub flags: u16,
    pub structured: bool,
    /// Largest payload of one request.
    pub payload_bytes_max: u32,
    pub contexts: Vec<(u32, String)>,
}

fn lost(error: std::io::Error) -> Fault {
    Fault::Lost(error.to_string())
}

pub(super) async fn shake_hands(
    stream: &mut UnixStream,
    export: &str,
    contexts: &[&str],
    payload_bytes_max: u32,
) -> Result<Terms, Fault> {
    let mut greeting = [0; wire::GREETING_BYTES];
    stream.read_exact(&mut greeting).await.map_err(lost)?;
    let client_flags = wire::decode_greeting(&greeting).map_err(Fault::Wire)?;
    stream.write_all(&client_flags.to_be_bytes()).await.map_err(lost)?;

    let structured = ask_structured(stream).await?;
    let granted = if contexts.is_empty() { Vec::new() } else { ask_contexts(stream, export, contexts).await? };
    let (size, flags, largest) = go(stream, export).await?;
    // 0 means that the server did not say.
    let payload_bytes_max = if largest == 0 { payload_bytes_max } else { payload_bytes_max.min(largest) };
    Ok(Terms { size, flags, structured, payload_bytes_max, contexts: granted })
}

async fn reply(stream: &mut UnixStream, option: u32) -> Result<wire::OptionReply, Fault> {
    let mut header = [0; wire::OPTION_REPLY_BYTES];
    stream.read_exact(&mut header).await.map_err(lost)?;
    let (kind, len) = wire::decode_option_reply(option, &header).map_err(Fault::Wire)?;
    if len > REPLY_BYTES_MAX {
        return Err(Fault::Wire(wire::WireError::Length { what: "an option's reply", bytes: u64::from(len) }));
    }
    let mut data = vec![0; len as usize];
    stream.read_exact(&mut data).await.map_err(lost)?;
    wire::decode_option_data(option, kind, &data).map_err(Fault::Wire)
}

fn out_of_turn(reply: &wire::OptionReply) -> Fault {
    Fault::Protocol(format!("answer out of turn in the handshake: {reply:?}"))
}

async fn ask_structured(stream: &mut UnixStream) -> Result<bool, Fault> {
    let option = wire::OPTION_STRUCTURED_REPLY;
    stream.write_all(&wire::encode_option(option, &[])).await.map_err(lost)?;
    match reply(stream, option).await? {
        wire::OptionReply::Ack => Ok(true),
        wire::OptionReply::Refused { .. } => Ok(false),
        other => Err(out_of_turn(&other)),
    }
}

async fn ask_contexts(stream: &mut UnixStream, export: &str, contexts: &[&str]) -> Result<Vec<(u32, String)>, Fault> {
    let option = wire::OPTION_SET_META_CONTEXT;
    stream.write_all(&wire::encode_set_meta_context(export, contexts)).await.map_err(lost)?;
    let mut granted = Vec::new();
    for _ in 0..REPLIES_MAX {
        match reply(stream, option).await? {
            wire::OptionReply::MetaContext { id, name } => granted.push((id, name)),
            wire::OptionReply::Ack => {
                return match contexts.iter().find(|want| !granted.iter().any(|(_, name)| name == *want)) {
                    Some(missing) => Err(Fault::NoContext((*missing).to_owned())),
                    None => Ok(granted),
                };
            }
            wire::OptionReply::Refused { code, message } => {
                return Err(Fault::Refused { what: "the meta contexts", code, message });
            }
            other => return Err(out_of_turn(&other)),
        }
    }
    Err(Fault::Protocol("no end of meta contexts".to_owned()))
}

async fn go(stream: &mut UnixStream, export: &str) -> Result<(u64, u16, u32), Fault> {
    stream.write_all(&wire::encode_go(export)).await.map_err(lost)?;
    let (mut found, mut largest) = (None, 0);
    for _ in 0..REPLIES_MAX {
        match reply(stream, wire::OPTION_GO).await? {
            wire::OptionReply::Export { size, flags } => found = Some((size, flags)),
            wire::OptionReply::BlockSize { largest: bytes, .. } => largest = bytes,
            wire::OptionReply::OtherInfo(_) => {}
            wire::OptionReply::Ack => {
                let (size, flags) = found.ok_or_else(|| Fault::Protocol("an export without a size".to_owned()))?;
                return Ok((size, flags, largest));
            }
            wire::OptionReply::Refused { code, message } => {
                return Err(Fault::Refused { what: "the export", code, message });
            }
            other @ wire::OptionReply::MetaContext { .. } => return Err(out_of_turn(&other)),
        }
    }
    Err(Fault::Protocol("no end of information on the export".to_owned()))
}
