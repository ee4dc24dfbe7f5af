import { Container, Group, Paper, Stack, Text, Title } from "@mantine/core";
import { type ReactNode, useEffect } from "react";
import { LanguageButton } from "@/components/LanguageButton";

/** The frame of the pages before one is signed in. */
export function Entrance({ title, text, children }: { title: string; text?: string; children: ReactNode }) {
  useEffect(() => {
    document.title = `${title} · Sparsewright`;
  }, [title]);
  return (
    <Container size={420} pt={{ base: 40, sm: 96 }} component="main">
      <Stack gap="lg">
        <Text fw={700} ta="center" fz="xl">
          Sparsewright
        </Text>
        <Paper withBorder p="lg">
          <Stack>
            <Title order={1} size="h3">
              {title}
            </Title>
            {text && (
              <Text size="sm" c="dimmed">
                {text}
              </Text>
            )}
            {children}
          </Stack>
        </Paper>
        <Group justify="center">
          <LanguageButton />
        </Group>
      </Stack>
    </Container>
  );
}
