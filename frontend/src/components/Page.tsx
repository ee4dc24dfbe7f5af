import { Anchor, Breadcrumbs, Group, Stack, Text, Title } from "@mantine/core";
import { type ReactNode, useEffect } from "react";
import { Link } from "react-router";

interface Props {
  title: string;
  /** Where this page hangs below: label and address. */
  above?: { label: string; to: string }[];
  badge?: ReactNode;
  note?: ReactNode;
  actions?: ReactNode;
  children: ReactNode;
}

/** The frame of every page: the browser's title, the way up, the heading, and what can be done here. */
export function Page({ title, above = [], badge, note, actions, children }: Props) {
  useEffect(() => {
    document.title = `${title} · Sparsewright`;
  }, [title]);
  return (
    <Stack gap="lg" maw={1240} mx="auto" pb="xl">
      <Stack gap={4}>
        {above.length > 0 && (
          <Breadcrumbs separator="/" fz="sm">
            {above.map(({ label, to }) => (
              <Anchor key={to} component={Link} to={to} size="sm">
                {label}
              </Anchor>
            ))}
          </Breadcrumbs>
        )}
        <Group justify="space-between" align="flex-start" gap="sm">
          <Group gap="sm" align="center">
            <Title order={1} size="h2" style={{ overflowWrap: "anywhere" }}>
              {title}
            </Title>
            {badge}
          </Group>
          {actions && <Group gap="xs">{actions}</Group>}
        </Group>
        {note && (
          <Text c="dimmed" size="sm">
            {note}
          </Text>
        )}
      </Stack>
      {children}
    </Stack>
  );
}
