import uPlot from "uplot";

/** The part of low..high that remains when `factor` of it is shown, with `at` staying where it is; never beyond all. */
export function zoomed(
  [low, high]: [number, number],
  [first, last]: [number, number],
  factor: number,
  at: number,
): [number, number] {
  const from = Math.max(first, at - (at - low) * factor);
  const to = Math.min(last, at + (high - at) * factor);
  return to > from ? [from, to] : [low, high];
}

/** Zooms every chart of a group on its time axis: `factor` below 1 shows less, 0 shows everything again. */
export function zoomGroup(group: string, factor: number, at?: number): void {
  for (const plot of uPlot.sync(group).plots) {
    const times = plot.data[0];
    const [first, last] = [times[0], times.at(-1)];
    const { min, max } = plot.scales.x ?? {};
    if (first === undefined || last === undefined || min == null || max == null || last <= first) continue;
    const [from, to] = factor === 0 ? [first, last] : zoomed([min, max], [first, last], factor, at ?? (min + max) / 2);
    plot.setScale("x", { min: from, max: to });
  }
}

/** Zooms with Ctrl and the wheel, or by pinching: the wheel alone scrolls the page. */
export function zoomByWheel(plot: uPlot, group: string): void {
  plot.over.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      const at = plot.posToVal(event.clientX - plot.over.getBoundingClientRect().left, "x");
      zoomGroup(group, Math.exp(Math.max(-0.5, Math.min(0.5, event.deltaY / 300))), at);
    },
    { passive: false },
  );
}
