//! Two charts above each other: charge, and the body's temperature.

use autoglm::power::model::{Name, Outcome, Sample};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};

use super::scenario::Loaded;

/// What is drawn.
#[derive(Debug)]
pub(super) struct Picture {
    title: String,
    curves: Vec<Curve>,
}

/// One policy.
#[derive(Debug)]
struct Curve {
    policy: Name,
    samples: Vec<Sample>,
}

/// Size of a picture in its own units, which are pixels of an SVG.
const WIDTH: u32 = 1200;
const HEIGHT: u32 = 900;

/// Pixels of a PNG for each of these units, along one side: for screens on which a unit is two dots.
const PNG_SCALE: u32 = 2;

/// A PNG is drawn this much larger, along one side, and then made smaller, since thick lines are drawn without smoothing.
const OVERSAMPLING: u32 = 2;

/// Points of a curve, more of which nobody could tell apart.
const MOST_POINTS: usize = 3000;

/// Labels of the axis of hours beside the first.
const MOST_MARKS: usize = 12;

/// Letters of a name, beyond which it is cut: files may have any name.
const NAME_LETTERS: usize = 28;

/// Above it a body is unpleasant to hold, in °C.
const TOO_WARM_C: f64 = 43.0;

/// The font is compiled in, so that pictures are the same everywhere.
const FONT: &str = "sans-serif";

const INK: RGBColor = RGBColor(38, 38, 38);
const FAINT_INK: RGBColor = RGBColor(96, 96, 96);
const AXIS: RGBColor = RGBColor(140, 140, 140);
const GRID: RGBColor = RGBColor(226, 226, 226);

/// Vermilion, which no policy has.
const LIMIT: RGBColor = RGBColor(213, 94, 0);

/// Okabe and Ito's colours, which people tell apart whatever colours they see.
fn colour(policy: Name) -> RGBColor {
    match policy {
        Name::None => RGBColor(0, 0, 0),
        Name::Os => RGBColor(230, 159, 0),
        Name::Seed => RGBColor(204, 121, 167),
        Name::Ours => RGBColor(86, 180, 233),
        Name::OursTiers => RGBColor(0, 114, 178),
        Name::Oracle => RGBColor(0, 158, 115),
    }
}

impl Picture {
    pub(super) fn of(loaded: &Loaded, outcomes: &[Outcome]) -> Self {
        let Loaded { device, trace, ambient_c, seed, .. } = loaded;
        let full = Sample { hours: 0.0, charge: 1.0, body_c: *ambient_c };
        let curve = |outcome: &Outcome| Curve {
            policy: outcome.policy,
            samples: thinned([&[full], &outcome.samples[..]].concat()),
        };
        let (device, trace) = (short(&device.name), short(&trace.name));
        Self {
            title: format!("{device}, trace {trace}, air of {ambient_c} °C, seed {seed}"),
            curves: outcomes.iter().map(curve).collect(),
        }
    }

    fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.curves.iter().flat_map(|curve| &curve.samples)
    }

    /// Hours on the axis: all that there are, with a little air.
    fn hours(&self) -> std::ops::Range<f64> {
        0.0..1.01 * self.samples().map(|sample| sample.hours).fold(1.0, f64::max)
    }

    /// Temperatures on the axis: all that there are and the limit, with a little air.
    fn degrees(&self) -> std::ops::Range<f64> {
        let (lowest, highest) = self.samples().fold((TOO_WARM_C, TOO_WARM_C), |(lowest, highest), sample| {
            (lowest.min(sample.body_c), highest.max(sample.body_c))
        });
        (lowest - 1.0).floor()..(highest + 2.0).ceil()
    }
}

impl Curve {
    /// What the legend says beside the name.
    fn end(&self) -> String {
        match self.samples.last() {
            Some(Sample { hours, charge, .. }) if *charge > 0.0 => {
                format!("{:.0} % left after {hours:.0} h", charge * 100.0)
            }
            last => format!("empty after {:.1} h", last.map_or(0.0, |last| last.hours)),
        }
    }
}

/// As many points as are seen: of several, the warmest stays, and the last of all.
fn thinned(samples: Vec<Sample>) -> Vec<Sample> {
    if samples.len() <= MOST_POINTS {
        return samples;
    }
    let warmest = |some: &[Sample]| some.iter().copied().max_by(|a, b| a.body_c.total_cmp(&b.body_c));
    let (last, before) = (samples.last().copied(), &samples[..samples.len() - 1]);
    before.chunks(samples.len().div_ceil(MOST_POINTS)).filter_map(warmest).chain(last).collect()
}

/// The axis of hours.
#[derive(Debug)]
struct Hours(std::ops::Range<f64>);

impl Ranged for Hours {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, hours: &f64, (left, right): (i32, i32)) -> i32 {
        left + (f64::from(right - left) * (hours - self.0.start) / (self.0.end - self.0.start)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        marks(self.0.end)
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.0.clone()
    }
}

/// Hours with a label, at equal distances by which a day can be divided, or which days divide.
fn marks(hours: f64) -> Vec<f64> {
    let distances = [0.25, 1.0, 2.0, 3.0, 6.0, 12.0, 24.0, 48.0, 120.0, 240.0, 480.0];
    let few = |distance: &f64| hours / distance <= MOST_MARKS as f64;
    let distance = distances.into_iter().find(few).unwrap_or(hours / MOST_MARKS as f64);
    (0..=(hours / distance) as u32).map(|mark| f64::from(mark) * distance).collect()
}

/// A name that fits the title, without characters that no picture shows.
fn short(name: &str) -> String {
    let name = super::simulate::printable(name);
    if name.chars().count() <= NAME_LETTERS {
        return name;
    }
    name.chars().take(NAME_LETTERS).chain(['…']).collect()
}

/// The picture as SVG.
pub(super) fn svg(picture: &Picture) -> Result<String, String> {
    let mut text = String::new();
    draw(&SVGBackend::with_string(&mut text, (WIDTH, HEIGHT)).into_drawing_area(), picture, 1)?;
    Ok(text)
}

/// The picture as PNG.
pub(super) fn png(picture: &Picture) -> Result<Vec<u8>, String> {
    let scale = PNG_SCALE * OVERSAMPLING;
    let (width, height) = (WIDTH * scale, HEIGHT * scale);
    let mut pixels = vec![255; width as usize * height as usize * 3];
    draw(&BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area(), picture, scale)?;
    let large = image::RgbImage::from_raw(width, height, pixels).ok_or("its pixels are of another number")?;
    let small = image::imageops::thumbnail(&large, WIDTH * PNG_SCALE, HEIGHT * PNG_SCALE);
    let mut bytes = std::io::Cursor::new(Vec::new());
    small.write_to(&mut bytes, image::ImageFormat::Png).map_err(|e| e.to_string())?;
    Ok(bytes.into_inner())
}

type Area<B> = DrawingArea<B, Shift>;

/// Draws with `scale` dots to a unit.
fn draw<B: DrawingBackend>(area: &Area<B>, picture: &Picture, scale: u32) -> Result<(), String> {
    register_font(FONT, FontStyle::Normal, dejavu::sans::regular()).map_err(|_| "its font is none".to_owned())?;
    let paper = Paper { scale: scale as i32 };
    let drawn = area.fill(&WHITE).and_then(|()| {
        let (head, charts) = area.split_vertically(paper.dots(132));
        paper.head(&head, picture)?;
        let (above, below) = charts.split_vertically(paper.dots(366));
        paper.chart(&above, picture, &CHARGE, 0.0..102.0)?;
        paper.chart(&below, picture, &BODY, picture.degrees())?;
        area.present()
    });
    drawn.map_err(|e| e.to_string())
}

/// One of the two charts.
struct Chart {
    label: &'static str,
    value: fn(&Sample) -> f64,
    /// A value above which something is wrong.
    limit: Option<f64>,
}

const CHARGE: Chart = Chart { label: "charge in %", value: |sample| sample.charge * 100.0, limit: None };
const BODY: Chart = Chart { label: "body in °C", value: |sample| sample.body_c, limit: Some(TOO_WARM_C) };

type Drawn<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

/// Units into dots.
struct Paper {
    scale: i32,
}

impl Paper {
    fn dots(&self, units: i32) -> i32 {
        units * self.scale
    }

    fn wide(&self, colour: RGBColor, units: i32) -> ShapeStyle {
        colour.stroke_width(self.dots(units).unsigned_abs())
    }

    fn letters(&self, units: i32, colour: RGBColor) -> TextStyle<'static> {
        (FONT, self.dots(units)).into_font().color(&colour).pos(Pos::new(HPos::Left, VPos::Center))
    }

    fn at(&self, x: i32, y: i32) -> (i32, i32) {
        (self.dots(x), self.dots(y))
    }

    /// Title and legend, in two rows of three.
    fn head<B: DrawingBackend>(&self, area: &Area<B>, picture: &Picture) -> Drawn<B> {
        area.draw_text(&picture.title, &self.letters(24, INK), self.at(40, 30))?;
        let said = "battery and body temperature, modelled, not measured on a phone";
        area.draw_text(said, &self.letters(17, FAINT_INK), self.at(40, 60))?;
        for (idx, curve) in picture.curves.iter().enumerate() {
            let (column, row) = (idx as i32 % 3, idx as i32 / 3);
            let (x, y) = (40 + 380 * column, 92 + 26 * row);
            let line = vec![self.at(x, y), self.at(x + 34, y)];
            area.draw(&PathElement::new(line, self.wide(colour(curve.policy), 4)))?;
            let text = format!("{}: {}", curve.policy.as_str(), curve.end());
            area.draw_text(&text, &self.letters(17, INK), self.at(x + 44, y))?;
        }
        Ok(())
    }

    fn chart<B: DrawingBackend>(
        &self,
        area: &Area<B>,
        picture: &Picture,
        what: &Chart,
        values: std::ops::Range<f64>,
    ) -> Drawn<B> {
        let hours = picture.hours();
        let mut chart = ChartBuilder::on(area)
            .margin_left(self.dots(22))
            .margin_right(self.dots(84))
            .margin_top(self.dots(14))
            .margin_bottom(self.dots(8))
            .x_label_area_size(self.dots(54))
            .y_label_area_size(self.dots(72))
            .build_cartesian_2d(Hours(hours.clone()), values)?;
        chart
            .configure_mesh()
            .x_desc("time in h")
            .y_desc(what.label)
            .x_labels(MOST_MARKS + 1)
            .y_labels(7)
            .x_label_formatter(&|hours| format!("{}", (hours * 100.0).round() / 100.0))
            .y_label_formatter(&|value| format!("{value:.0}"))
            .label_style(self.letters(16, INK))
            .axis_desc_style(self.letters(17, INK))
            .axis_style(self.wide(AXIS, 1))
            .bold_line_style(self.wide(GRID, 1))
            .light_line_style(TRANSPARENT)
            .set_all_tick_mark_size(self.dots(5))
            .draw()?;
        if let Some(limit) = what.limit {
            let line = [(hours.start, limit), (hours.end, limit)];
            let dashes = (self.dots(9), self.dots(6));
            chart.draw_series(DashedLineSeries::new(line, dashes.0, dashes.1, self.wide(LIMIT, 2)))?;
            // Beside the chart, where no curve runs through it.
            let (x, y) = chart.backend_coord(&(hours.end, limit));
            let (left, top) = area.get_base_pixel();
            let at = (x - left + self.dots(8), y - top);
            area.draw_text(&format!("{limit:.0} °C"), &self.letters(16, LIMIT), at)?;
        }
        for curve in &picture.curves {
            let points = curve.samples.iter().map(|sample| (sample.hours, (what.value)(sample)));
            chart.draw_series(LineSeries::new(points, self.wide(colour(curve.policy), 2)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_curves_keep_their_end_and_their_warmest_point() {
        let sample = |idx: usize| Sample {
            hours: idx as f64,
            charge: 1.0 - idx as f64 / 1e5,
            body_c: if idx == 7_777 { 50.0 } else { 30.0 },
        };
        let all: Vec<Sample> = (0..10_000).map(sample).collect();
        let few = thinned(all.clone());
        assert!(few.len() <= MOST_POINTS + 1 && few.last() == all.last());
        assert!(few.contains(&all[7_777]) && few.is_sorted_by(|a, b| a.hours < b.hours));
        assert_eq!(thinned(all[..10].to_vec()), all[..10]);
    }

    #[test]
    fn marks_are_few_and_divide_days() {
        assert_eq!(marks(47.2), [0.0, 6.0, 12.0, 18.0, 24.0, 30.0, 36.0, 42.0]);
        for hours in [1.01, 5.0, 13.0, 500.0, 1e4, 1e7] {
            assert!((4..=MOST_MARKS + 1).contains(&marks(hours).len()), "{hours}: {:?}", marks(hours));
        }
    }

    #[test]
    fn names_of_any_length_and_kind_fit_the_title() {
        assert_eq!(short("tensor-g4"), "tensor-g4");
        assert_eq!(short("a\u{1b}[2J"), "a?[2J");
        assert_eq!(short(&"手".repeat(200)).chars().count(), NAME_LETTERS + 1);
    }
}
