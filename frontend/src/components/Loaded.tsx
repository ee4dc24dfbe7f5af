import { Skeleton, Stack } from "@mantine/core";
import type { ReactNode } from "react";
import { ErrorNote } from "./ErrorNote";

interface Props<Data> {
  query: { data: Data | undefined; error: unknown };
  lines?: number;
  children: (data: Data) => ReactNode;
}

/** Shows a query's data; grey lines before it is there, the error when it can't be had. */
export function Loaded<Data>({ query, lines = 4, children }: Props<Data>) {
  if (query.data !== undefined) return <>{children(query.data)}</>;
  if (query.error) return <ErrorNote error={query.error} />;
  return (
    <Stack gap="xs" aria-busy="true">
      {Array.from({ length: lines }, (_, line) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: the lines are all alike and never change places
        <Skeleton key={line} height={18} radius="sm" width={line % 3 === 2 ? "60%" : "100%"} />
      ))}
    </Stack>
  );
}
