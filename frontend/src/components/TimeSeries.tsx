import { Box, Text, useComputedColorScheme, VisuallyHidden } from "@mantine/core";
import { useEffect, useMemo, useRef } from "react";
import { useTranslation } from "react-i18next";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { locale } from "@/lib/format";
import { zoomByWheel } from "./zoom";

interface Props {
  title: string;
  /** Unix seconds, rising. */
  times: number[];
  values: (number | null)[];
  format: (value: number) => string;
  /** Charts of one group share the cursor and the zoom. */
  group: string;
  /** Fixed limits of the value axis, where the quantity has them. */
  range?: [number, number];
  points?: boolean;
  /** Half as high, for what is looked at in passing. */
  small?: boolean;
}

const HEIGHT = 170;
const SMALL = 110;
/** Seconds shown before and after a point that is alone. */
const ALONE = 30;

/** One quantity over time. Drag to zoom, double click to see all; a zoomed chart stays where it is while data comes. */
export function TimeSeries({ title, times, values, format, group, range, points = false, small = false }: Props) {
  const { t } = useTranslation();
  const scheme = useComputedColorScheme("light");
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const data = useRef<uPlot.AlignedData>([times, values]);
  data.current = [times, values];

  const height = small ? SMALL : HEIGHT;
  const [low, high] = range ?? [undefined, undefined];
  // biome-ignore lint/correctness/useExhaustiveDependencies: the colours are read anew when the scheme changes
  useEffect(() => {
    const parent = box.current;
    if (!parent) return;
    const color = (name: string) => getComputedStyle(parent).getPropertyValue(`--mantine-color-${name}`).trim();
    const axis: uPlot.Axis = {
      stroke: color("dimmed"),
      grid: { stroke: color("default-border"), width: 1 },
      ticks: { stroke: color("default-border"), width: 1 },
    };
    const line = color("anchor");
    const made = new uPlot(
      {
        width: Math.max(200, parent.clientWidth),
        height,
        cursor: { sync: { key: group, scales: ["x", null] }, drag: { x: true, y: false } },
        legend: { show: true },
        scales: {
          // A single point has no width of its own.
          x: { range: (_, min, max) => (min !== null && min === max ? [min - ALONE, max + ALONE] : [min, max]) },
          y: low === undefined || high === undefined ? {} : { range: [low, high] },
        },
        axes: [
          { ...axis, values: (_, ticks) => ticks.map((tick) => clock(tick)) },
          { ...axis, size: 64, values: (_, ticks) => ticks.map((tick) => format(tick)) },
        ],
        series: [
          { label: t("chart.time"), value: (_, value) => (value == null ? "–" : clock(value)) },
          {
            label: title,
            stroke: line,
            width: 1, // a hairline is drawn several times as fast as anything wider: 100,000 points stay smooth
            points: points ? { show: true, size: 6, fill: line } : { show: false },
            value: (_, value) => (value == null ? "–" : format(value)),
          },
        ],
      },
      data.current,
      parent,
    );
    plot.current = made;
    zoomByWheel(made, group);
    const observer = new ResizeObserver(() => made.setSize({ width: Math.max(200, parent.clientWidth), height }));
    observer.observe(parent);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [scheme, title, format, group, low, high, points, height, t]);

  useEffect(() => {
    const drawn = plot.current;
    if (!drawn) return;
    const [before] = drawn.data;
    const { min, max } = drawn.scales.x ?? {};
    const first = before[0];
    const last = before.at(-1);
    const zoomed = min != null && max != null && first != null && last != null && (min > first || max < last);
    drawn.setData([times, values], !zoomed);
    if (zoomed) drawn.redraw();
  }, [times, values]);

  const [count, summary] = useMemo(() => {
    const known = values.filter((value) => value !== null);
    if (known.length === 0) return [0, t("chart.empty", { title })];
    const words = {
      title,
      count: known.length,
      first: format(known[0] ?? 0),
      last: format(known.at(-1) ?? 0),
      min: format(known.reduce((a, b) => Math.min(a, b))),
      max: format(known.reduce((a, b) => Math.max(a, b))),
    };
    return [known.length, t("chart.summary", words)];
  }, [values, title, format, t]);
  return (
    <Box component="figure" m={0} miw={0}>
      <Text component="figcaption" size="sm" fw={500}>
        {title}
        <VisuallyHidden>{summary}</VisuallyHidden>
      </Text>
      <div ref={box} aria-hidden="true" data-points={count} style={{ overflow: "hidden" }} />
    </Box>
  );
}

function clock(seconds: number): string {
  return new Date(seconds * 1000).toLocaleTimeString(locale(), { hour12: false });
}
