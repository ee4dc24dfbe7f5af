import { Box, Text, useComputedColorScheme, VisuallyHidden } from "@mantine/core";
import { useEffect, useRef } from "react";
import { useTranslation } from "react-i18next";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { duration } from "@/lib/format";

export interface Line {
  label: string;
  /** Seconds since the run began, rising. */
  times: number[];
  values: (number | null)[];
}

interface Props {
  title: string;
  lines: Line[];
  format: (value: number) => string;
}

const HEIGHT = 220;
/** Shades of the theme that stand apart in both schemes, also for those who see few colours: with dashes. */
const STROKES = ["cyan-6", "orange-6", "violet-5", "green-7", "pink-6", "yellow-7", "blue-6", "red-6"];
const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3]];

/** The same quantity of several runs, laid over each other from their beginnings. */
export function OverlayChart({ title, lines, format }: Props) {
  const { t } = useTranslation();
  const scheme = useComputedColorScheme("light");
  const box = useRef<HTMLDivElement>(null);

  // biome-ignore lint/correctness/useExhaustiveDependencies: the colours are read anew when the scheme changes
  useEffect(() => {
    const parent = box.current;
    if (!parent || lines.length === 0) return;
    const color = (name: string) => getComputedStyle(parent).getPropertyValue(`--mantine-color-${name}`).trim();
    const axis: uPlot.Axis = {
      stroke: color("dimmed"),
      grid: { stroke: color("default-border"), width: 1 },
      ticks: { stroke: color("default-border"), width: 1 },
    };
    const width = () => Math.max(200, parent.clientWidth);
    const plot = new uPlot(
      {
        width: width(),
        height: HEIGHT,
        cursor: { drag: { x: true, y: false } },
        scales: { x: { time: false } },
        axes: [
          { ...axis, values: (_, ticks) => ticks.map((tick) => duration(tick)), space: 80 },
          { ...axis, size: 64, values: (_, ticks) => ticks.map((tick) => format(tick)) },
        ],
        series: [
          { label: t("chart.time"), value: (_, value) => (value == null ? "–" : duration(value)) },
          ...lines.map(
            ({ label }, at): uPlot.Series => ({
              label,
              stroke: color(STROKES[at % STROKES.length] ?? "anchor"),
              dash: DASHES[Math.floor(at / 2) % DASHES.length],
              width: 1.5,
              spanGaps: true,
              points: { show: false },
              value: (_, value) => (value == null ? "–" : format(value)),
            }),
          ),
        ],
      },
      uPlot.join(lines.map(({ times, values }) => [times, values] as uPlot.AlignedData)),
      parent,
    );
    const observer = new ResizeObserver(() => plot.setSize({ width: width(), height: HEIGHT }));
    observer.observe(parent);
    return () => {
      observer.disconnect();
      plot.destroy();
    };
  }, [lines, title, format, scheme, t]);

  const last = lines.map(({ label, values }) => {
    const value = values.findLast((entry) => entry !== null);
    return `${label} ${value == null ? "–" : format(value)}`;
  });
  return (
    <Box component="figure" m={0} miw={0}>
      <Text component="figcaption" size="sm" fw={500}>
        {title}
        <VisuallyHidden>: {t("chart.lastOf", { values: last.join("; ") })}</VisuallyHidden>
      </Text>
      <div ref={box} aria-hidden="true" data-lines={lines.length} style={{ overflow: "hidden" }} />
    </Box>
  );
}
