import { Badge, Group } from "@mantine/core";

/** The names that point at a version. */
export function AliasBadges({ names }: { names: string[] }) {
  return (
    <Group gap={4}>
      {names.map((name) => (
        <Badge key={name} variant="light" tt="none">
          {name}
        </Badge>
      ))}
    </Group>
  );
}
