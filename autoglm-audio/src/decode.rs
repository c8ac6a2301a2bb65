//! A sound file into one channel of samples, within limits.
//!
//! Whole numbers become floats as libsndfile makes them: divided by 2^(bits − 1), so that 16-bit −32768 is −1
//! exactly. Channels are averaged. What a file announces is checked before anything is reserved for it, and
//! what it holds is counted while it is decoded.

use std::io::{Cursor, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};

use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error as Reason;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::{MediaSourceStream, ReadOnlySource};
use symphonia::core::packet::Packet;
use symphonia::default::formats::{FlacReader, MpaReader, WavReader};

use crate::error::{damaged, undecodable};
use crate::sound::{check_rate, check_sample};
use crate::{Error, Result, Sound};

mod flac;
mod mpeg;
mod riff;
mod tags;

/// How large a sound may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the file.
    pub bytes: u64,
    /// Channels.
    pub channels: u64,
    /// Seconds of sound.
    pub seconds: u64,
    /// Samples of a channel, however many of them a second has.
    pub samples: u64,
}

impl Default for Limits {
    /// 64 MiB, 8 channels, the 21 windows of 30 seconds after which transformers' `GlmAsrProcessor` cuts a sound off,
    /// and as many samples as they have at 48 kHz: 121 MB of floats.
    fn default() -> Self {
        Self { bytes: 64 << 20, channels: 8, seconds: 630, samples: 630 * 48_000 }
    }
}

/// Reads a WAV (8 to 32-bit integers, floats), FLAC or MP3 file.
///
/// # Errors
/// - [`Error::Empty`] and [`Error::UnknownFormat`] for bytes that are no sound file.
/// - [`Error::TooLarge`] and [`Error::SampleRate`] for one beyond `limits`.
/// - [`Error::Truncated`] for one that ends before its header says.
/// - [`Error::GoesOn`] for one that does not end where its header says.
/// - [`Error::Damaged`] for one of which a part in the middle is missing, or whose checksum is another than it says.
/// - [`Error::NotANumber`] and [`Error::TooLoud`] for floats that are none, or beyond 2^24 times full scale.
/// - [`Error::Undecodable`] for anything else that contradicts the format.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Sound> {
    if bytes.is_empty() {
        return Err(Error::Empty);
    }
    check("bytes", bytes.len() as u64, limits.bytes)?;
    // The one reader that the beginning asks for. A prober would look for the beginning of a stream anywhere in the
    // first megabyte, and find one in pictures, or a RIFF file that nobody has looked at.
    let options = FormatOptions::default;
    if bytes.starts_with(b"RIFF") {
        let plain = riff::plain(bytes, limits)?;
        let mut reader = trap(|| WavReader::try_new(stream(&plain), options()))?.map_err(undecodable)?;
        return all(&mut reader, limits, None);
    }
    let bytes = tags::between(bytes)?;
    if bytes.starts_with(b"fLaC") {
        let plain = flac::plain(bytes)?;
        let mut reader = trap(|| FlacReader::try_new(stream(&plain.bytes), options()))?.map_err(undecodable)?;
        return all(&mut reader, limits, Some(plain.frames));
    }
    if mpeg::begins(bytes) {
        let frames = mpeg::frames(bytes)?;
        let mut reader = trap(|| MpaReader::try_new(stream(frames), options()))?.map_err(undecodable)?;
        return all(&mut reader, limits, None);
    }
    Err(Error::UnknownFormat)
}

/// A reader that could go back would guess the length of an MP3 file that does not tell it, and cut it there.
fn stream(bytes: &[u8]) -> MediaSourceStream<'_> {
    MediaSourceStream::new(Box::new(ReadOnlySource::new(Cursor::new(bytes))), Default::default())
}

/// Calls symphonia. Its arithmetic on numbers from a file is not always checked, and a build that traps integers which
/// overflow would end the program where another one computes nonsense. A panic there says that the file is damaged and
/// nothing about us: reader and decoder are dropped with the error, so that nobody sees what state it left them in. The
/// program's panic hook still has its say.
fn trap<T>(call: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no reason is known");
        damaged(format!("the decoder panics: {text}"))
    })
}

/// The whole sound. `frames` is how many bytes its frames have, of a format that says where each of them belongs.
fn all(format: &mut dyn FormatReader, limits: &Limits, frames: Option<usize>) -> Result<Sound> {
    let mut track = Track::of(format, limits, frames)?;
    while let Some(packet) = next(format, &track)? {
        if packet.track_id == track.id {
            track.decode(&packet, limits)?;
        }
    }
    track.finish()
}

fn check(what: &'static str, got: u64, limit: u64) -> Result<()> {
    if got > limit { Err(Error::TooLarge { what, got, limit }) } else { Ok(()) }
}

/// The next packet, or nothing at the end.
fn next(format: &mut dyn FormatReader, track: &Track) -> Result<Option<Packet>> {
    match trap(|| format.next_packet())? {
        Ok(packet) => Ok(packet),
        // Some readers report the end of the file as an error. Whether it was the end of the sound is seen
        // by what was announced; an MP3 file without a word about its length ends where it ends.
        Err(Reason::IoError(e)) if e.kind() == ErrorKind::UnexpectedEof && track.may_end() => Ok(None),
        Err(reason) => Err(undecodable(reason)),
    }
}

/// The sound in a file, as far as it was decoded.
struct Track {
    id: u32,
    decoder: Box<dyn AudioDecoder>,
    /// Samples per channel that the file says it has, if it says so.
    announced: Option<u64>,
    /// Samples that the encoder says to have put behind the sound.
    padding: u32,
    /// Bytes of frames that have not come yet, of a format that says where each frame belongs.
    unread: Option<usize>,
    rate: Option<u32>,
    samples: Vec<f32>,
    interleaved: Vec<f64>,
}

impl Track {
    fn of(format: &dyn FormatReader, limits: &Limits, frames: Option<usize>) -> Result<Self> {
        let track = format.default_track(TrackType::Audio).ok_or_else(|| undecodable("there is no sound in it"))?;
        let parameters = track.codec_params.as_ref().and_then(|parameters| parameters.audio());
        let parameters = parameters.ok_or_else(|| undecodable("there is no sound in it"))?;
        if let Some(channels) = &parameters.channels {
            check("channels", channels.count() as u64, limits.channels)?;
        }
        if let Some(rate) = parameters.sample_rate {
            check_rate(rate)?;
            check("seconds", track.num_frames.unwrap_or(0) / u64::from(rate), limits.seconds)?;
            check("samples", track.num_frames.unwrap_or(0), limits.samples)?;
        }
        let options = AudioDecoderOptions::default().verify(true);
        let decoder = trap(|| symphonia::default::get_codecs().make_audio_decoder(parameters, &options))?;
        Ok(Self {
            id: track.id,
            decoder: decoder.map_err(undecodable)?,
            announced: track.num_frames,
            padding: track.padding.unwrap_or(0),
            unread: frames,
            rate: parameters.sample_rate,
            samples: Vec::new(),
            interleaved: Vec::new(),
        })
    }

    /// Whether an end of the file here is the end of a sound, or at least one that will be held against what was
    /// announced.
    fn may_end(&self) -> bool {
        self.announced.is_some() || !self.samples.is_empty()
    }

    fn decode(&mut self, packet: &Packet, limits: &Limits) -> Result<()> {
        self.place(packet)?;
        let Self { decoder, interleaved, .. } = self;
        let decoded = trap(|| {
            decoder.decode(packet).map(|decoded| {
                decoded.copy_to_vec_interleaved(interleaved);
                (decoded.spec().channels().count(), decoded.spec().rate(), decoded.frames())
            })
        });
        let (channels, rate, frames) = decoded?.map_err(undecodable)?;
        if channels == 0 || frames == 0 {
            return Ok(());
        }
        check("channels", channels as u64, limits.channels)?;
        check_rate(rate)?;
        if *self.rate.get_or_insert(rate) != rate {
            return Err(undecodable("the number of samples per second changes inside the file"));
        }
        let before = self.samples.len();
        let after = before.saturating_add(frames) as u64;
        check("seconds", after.div_ceil(u64::from(rate)), limits.seconds)?;
        check("samples", after, limits.samples)?;
        for (i, frame) in self.interleaved.chunks_exact(channels).enumerate() {
            // Before they are averaged: two that are out of bounds may have a mean that is not.
            frame.iter().try_for_each(|sample| check_sample(before + i, *sample))?;
            self.samples.push((frame.iter().sum::<f64>() / channels as f64) as f32);
        }
        Ok(())
    }

    /// Checks that a packet stands where the last one ended and where there is still sound.
    fn place(&mut self, packet: &Packet) -> Result<()> {
        let (at, got) = (packet.pts.get(), self.samples.len());
        if let Some(announced) = self.announced.filter(|end| at >= 0 && at as u64 >= end + u64::from(self.padding)) {
            return Err(Error::GoesOn { announced });
        }
        let Some(unread) = &mut self.unread else { return Ok(()) };
        // The reader steps over frames whose checksums are wrong.
        if i64::try_from(got) != Ok(at) {
            return Err(damaged(format!("where sample {got} should be is sample {at}")));
        }
        *unread = unread.saturating_sub(packet.data.len());
        Ok(())
    }

    fn finish(mut self) -> Result<Sound> {
        let got = self.samples.len() as u64;
        if let Some(announced) = self.announced.filter(|announced| got < *announced) {
            return Err(Error::Truncated { got, announced });
        }
        if let Some(unread) = self.unread.filter(|unread| *unread > 0) {
            return Err(damaged(format!("{unread} bytes behind sample {got} are no frame")));
        }
        if trap(|| self.decoder.finalize())?.verify_ok == Some(false) {
            return Err(damaged("its samples have another checksum than it says"));
        }
        let rate = self.rate.ok_or_else(|| undecodable("it does not say how many samples a second has"))?;
        Sound::new(rate, self.samples)
    }
}

#[cfg(test)]
mod tests;
