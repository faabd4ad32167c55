/**
 * Owns making foreign text safe to show and measuring how wide it is on a screen.
 * Does not own tables (table.ts) or colours (style.ts).
 * Invariant: nothing that comes out of `clean` can move a cursor, change a colour, or reorder the text around it.
 */

/** Controls, invisible and direction-changing characters, line separators, halves of characters. */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** Unicode's wide and full-width blocks (UAX #11), and what terminals draw as a picture. */
const WIDE =
  /[\u1100-\u115F\u2E80-\u303E\u3041-\uA4CF\uA960-\uA97F\uAC00-\uD7A3\uF900-\uFAFF\uFE30-\uFE6F\uFF00-\uFF60\uFFE0-\uFFE6\u{20000}-\u{3FFFD}]|\p{Emoji_Presentation}|\uFE0F/u;
const ZERO_WIDTH = /^[\p{Mn}\p{Me}]+$/u;

const graphemes = new Intl.Segmenter("en", { granularity: "grapheme" });

/** Makes text from outside safe to show: what could act on a terminal stands there as its escape, such as `\x1b` or `\u202e`. */
export function clean(text: string): string {
  return text.replaceAll(UNSAFE, (found) => {
    if (found === "\n") return String.raw`\n`;
    if (found === "\t") return String.raw`\t`;
    const code = found.codePointAt(0) ?? 0;
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`;
  });
}

/** How many columns of a terminal a cleaned text takes. */
export function displayWidth(text: string): number {
  if (/^[ -~]*$/.test(text)) return text.length;
  let width = 0;
  for (const { segment } of graphemes.segment(text)) width += graphemeWidth(segment);
  return width;
}

/** A cleaned text in at most so many columns; what had to go is marked by `…`. */
export function cut(text: string, width: number): string {
  if (displayWidth(text) <= width) return text;
  let kept = "";
  let used = 0;
  for (const { segment } of graphemes.segment(text)) {
    const next = graphemeWidth(segment);
    if (used + next > width - 1) break;
    kept += segment;
    used += next;
  }
  return `${kept}…`;
}

/** Fills a text up to a width. */
export function pad(text: string, width: number, align: "left" | "right"): string {
  const fill = " ".repeat(Math.max(0, width - displayWidth(text)));
  return align === "right" ? fill + text : text + fill;
}

/** Breaks a sentence into lines of at most `width` columns at its spaces; a longer word keeps its line. */
export function wrap(text: string, width: number, indent = ""): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    const longer = line === "" ? word : `${line} ${word}`;
    if (line !== "" && displayWidth(longer) > width) {
      lines.push(line);
      line = indent + word;
    } else line = longer;
  }
  return [...lines, line];
}

function graphemeWidth(segment: string): number {
  if (WIDE.test(segment)) return 2;
  return ZERO_WIDTH.test(segment) ? 0 : 1;
}
