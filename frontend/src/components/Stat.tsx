import { Paper, SimpleGrid, Text } from "@mantine/core";
import type { ReactNode } from "react";

export interface Figure {
  label: string;
  value: ReactNode;
  note?: ReactNode;
}

/** A row of figures with their labels. */
export function Stats({ figures, cols = 4 }: { figures: Figure[]; cols?: number }) {
  return (
    <SimpleGrid cols={{ base: 2, sm: cols }} spacing="sm" component="dl" m={0}>
      {figures.map(({ label, value, note }) => (
        <Paper key={label} withBorder radius="md" p="sm">
          <Text component="dt" size="xs" c="dimmed">
            {label}
          </Text>
          <Text component="dd" m={0} fw={600} fz="lg" className="figure">
            {value}
          </Text>
          {note && (
            <Text component="dd" m={0} size="xs" c="dimmed" className="figure">
              {note}
            </Text>
          )}
        </Paper>
      ))}
    </SimpleGrid>
  );
}
