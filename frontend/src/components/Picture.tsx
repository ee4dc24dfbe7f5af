import { Box, Button, Group, Text, useComputedColorScheme } from "@mantine/core";
import { type PointerEvent, useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import type { Colors } from "@/lib/draw";
import { fileName, saveBlob } from "@/lib/save";

interface Props {
  title: string;
  /** What the picture shows, in words. */
  alt: string;
  height: number;
  draw: (pen: CanvasRenderingContext2D, width: number, height: number, colors: Colors) => void;
  /** What lies under the pointer, in words. */
  point?: (x: number, y: number, width: number) => string;
  /** Can be kept as a PNG. */
  save?: boolean;
}

/** A canvas that fits its place, follows the colour scheme, says what it shows, and can be kept as a PNG. */
export function Picture({ title, alt, height, draw, point, save = true }: Props) {
  const { t } = useTranslation();
  const scheme = useComputedColorScheme("light");
  const canvas = useRef<HTMLCanvasElement>(null);
  const [under, setUnder] = useState("");

  // biome-ignore lint/correctness/useExhaustiveDependencies: the colours are read anew when the scheme changes
  useEffect(() => {
    const sheet = canvas.current;
    const place = sheet?.parentElement;
    if (!sheet || !place) return;
    const paint = () => {
      const width = Math.max(120, place.clientWidth);
      const density = Math.min(3, window.devicePixelRatio || 1);
      sheet.width = Math.round(width * density);
      sheet.height = Math.round(height * density);
      sheet.style.height = `${height}px`;
      const pen = sheet.getContext("2d");
      if (!pen) return;
      const colors = colorsOf(place);
      pen.setTransform(density, 0, 0, density, 0, 0);
      pen.fillStyle = colors.ground;
      pen.fillRect(0, 0, width, height);
      draw(pen, width, height, colors);
    };
    paint();
    const observer = new ResizeObserver(paint);
    observer.observe(place);
    return () => observer.disconnect();
  }, [draw, height, scheme]);

  const move = (event: PointerEvent<HTMLCanvasElement>) => {
    const { left, top, width } = event.currentTarget.getBoundingClientRect();
    setUnder(point?.(event.clientX - left, event.clientY - top, width) ?? "");
  };
  return (
    <Box component="figure" m={0} miw={0}>
      <Group component="figcaption" justify="space-between" wrap="nowrap" gap="xs">
        <Text size="sm" fw={500} className="breakable">
          {title}
        </Text>
        {save && (
          <Button
            size="compact-xs"
            variant="subtle"
            aria-label={t("chart.savePng", { title })}
            onClick={() => canvas.current?.toBlob((blob) => blob && saveBlob(blob, `${fileName(title)}.png`))}
          >
            PNG
          </Button>
        )}
      </Group>
      <Box>
        <canvas
          ref={canvas}
          role="img"
          aria-label={`${title}: ${alt}`}
          style={{ display: "block", width: "100%" }}
          onPointerMove={point && move}
          onPointerLeave={point && (() => setUnder(""))}
        />
      </Box>
      {point && (
        <Text size="xs" c="dimmed" className="figure" mih={18} aria-hidden="true">
          {under}
        </Text>
      )}
    </Box>
  );
}

function colorsOf(place: Element): Colors {
  const style = getComputedStyle(place);
  const color = (name: string) => style.getPropertyValue(`--mantine-color-${name}`).trim();
  const dark = document.documentElement.getAttribute("data-mantine-color-scheme") === "dark";
  return {
    text: color("dimmed"),
    line: dark ? color("dark-3") : color("gray-4"),
    ground: dark ? color("dark-6") : "#ffffff",
    accent: dark ? color("cyan-4") : color("cyan-9"),
    second: dark ? color("orange-4") : color("orange-8"),
  };
}
