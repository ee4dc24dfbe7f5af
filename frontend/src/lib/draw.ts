/** What is drawn on a canvas. Sizes are in CSS pixels; colours come from the page's scheme. */

export interface Colors {
  text: string;
  line: string;
  ground: string;
  accent: string;
  second: string;
}

export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

const FONT = "11px system-ui, sans-serif";

/** "#0b7285" -> [11, 114, 133]; other ways of writing a colour are not used by the theme. */
export function channels(hex: string): [number, number, number] {
  const digits = /^#([0-9a-f]{6})$/i.exec(hex.trim())?.[1] ?? "808080";
  const value = Number.parseInt(digits, 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

/** The colour at `share` of the way from `from` to `to`. */
export function mix(from: string, to: string, share: number): string {
  const a = channels(from);
  const b = channels(to);
  const part = Math.min(1, Math.max(0, share));
  return `rgb(${a.map((low, at) => Math.round(low + ((b[at] ?? low) - low) * part)).join(", ")})`;
}

/** Round numbers that divide low..high into about `count` parts. */
export function ticks(low: number, high: number, count: number): number[] {
  const span = high - low;
  if (!(span > 0)) return [low];
  const raw = span / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = ([1, 2, 5, 10].find((factor) => factor * power >= raw) ?? 10) * power;
  const found: number[] = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + span * 1e-9; at++)
    found.push(Number((at * step).toPrecision(12)));
  return found;
}

/** The points that no other beats: none has at most their cost and more of the value. In order of cost. */
export function front<Point extends { cost: number; value: number }>(points: Point[]): Point[] {
  const found: Point[] = [];
  for (const point of [...points].sort((a, b) => a.cost - b.cost || b.value - a.value)) {
    const last = found.at(-1);
    if (!last || point.value > last.value) found.push(point);
  }
  return found;
}

export function write(
  pen: CanvasRenderingContext2D,
  text: string,
  x: number,
  y: number,
  color: string,
  align: CanvasTextAlign = "left",
): void {
  pen.font = FONT;
  pen.fillStyle = color;
  pen.textAlign = align;
  pen.textBaseline = "middle";
  pen.fillText(text, x, y);
}

/** As much of `text` as fits into `width`. */
export function fitted(pen: CanvasRenderingContext2D, text: string, width: number): string {
  pen.font = FONT;
  if (pen.measureText(text).width <= width) return text;
  let end = text.length;
  while (end > 1 && pen.measureText(`${text.slice(0, end)}…`).width > width) end--;
  return `${text.slice(0, end)}…`;
}

/** Cells of equal size, from the ground (0) to the accent (1); null is left empty. */
export function drawCells(
  pen: CanvasRenderingContext2D,
  box: Box,
  values: (number | null)[][],
  colors: Colors,
  gap = 0,
): void {
  const height = box.height / Math.max(1, values.length);
  values.forEach((row, down) => {
    const width = box.width / Math.max(1, row.length);
    row.forEach((value, across) => {
      if (value === null) return;
      pen.fillStyle = mix(colors.ground, colors.accent, value);
      // Whole pixels: seams between cells would look like structure.
      const left = Math.round(box.x + across * width);
      const top = Math.round(box.y + down * height);
      pen.fillRect(
        left,
        top,
        Math.max(1, Math.round(box.x + (across + 1) * width) - left - gap),
        Math.max(1, Math.round(box.y + (down + 1) * height) - top - gap),
      );
    });
  });
}

/** Counts of equal bins between two edges: all of them, and in the accent those that were kept. */
export function drawHistogram(
  pen: CanvasRenderingContext2D,
  box: Box,
  { edges, all, kept }: { edges: [number, number]; all: number[]; kept: number[] },
  colors: Colors,
  scale: (count: number) => number = Math.sqrt, // the few large weights matter, and linear bars would hide them
): void {
  const foot = 18;
  const height = box.height - foot;
  const most = scale(Math.max(1, ...all));
  const width = box.width / Math.max(1, all.length);
  const bars = (counts: number[], color: string) => {
    pen.fillStyle = color;
    counts.forEach((count, at) => {
      const tall = (scale(count) / most) * height;
      pen.fillRect(box.x + at * width, box.y + height - tall, Math.max(1, width - 1), tall);
    });
  };
  bars(all, colors.line);
  bars(kept, colors.accent);
  for (const tick of ticks(edges[0], edges[1], 4)) {
    const at = box.x + ((tick - edges[0]) / (edges[1] - edges[0] || 1)) * box.width;
    const align = at < box.x + 16 ? "left" : at > box.x + box.width - 16 ? "right" : "center";
    write(pen, String(tick), at, box.y + height + foot / 2 + 2, colors.text, align);
  }
}
