//! An SVG as a PNG, for whoever cannot show an SVG.

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree};

use crate::Trouble;

/// Pixels of the PNG for each of the SVG.
const SCALE: f32 = 2.0;

/// Renders an SVG with the fonts of this machine.
pub fn of(svg: &str) -> Result<Vec<u8>, Trouble> {
    let mut options = Options::default();
    let fonts = options.fontdb_mut();
    fonts.load_system_fonts();
    // For `sans-serif`, which the database has no font for by itself.
    let families = || fonts.faces().flat_map(|face| &face.families).map(|(family, _)| family);
    let sans = families().find(|family| family.ends_with(" Sans")).or(families().next());
    let sans = sans.ok_or("this machine has no fonts, which a PNG needs")?.clone();
    fonts.set_sans_serif_family(sans);
    let tree = Tree::from_str(svg, &options).map_err(|error| error.to_string())?;
    let size = tree.size().to_int_size();
    let side = |pixels: u32| (pixels as f32 * SCALE) as u32;
    let mut picture =
        Pixmap::new(side(size.width()), side(size.height())).ok_or("a picture without a size")?;
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut picture.as_mut());
    picture.encode_png().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn an_svg_becomes_a_png() {
        let svg = "<svg xmlns='http://www.w3.org/2000/svg' width='4' height='3'/>";
        assert!(of(svg).expect("a picture").starts_with(b"\x89PNG"));
        assert!(of("no picture").is_err());
    }
}
