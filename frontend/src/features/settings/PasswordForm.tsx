import { Button, Group, Stack, Text } from "@mantine/core";
import { type FormEvent, useState } from "react";
import { useTranslation } from "react-i18next";
import { api } from "@/api/client";
import { ErrorNote } from "@/components/ErrorNote";
import { PasswordField } from "@/components/PasswordField";
import { Section } from "@/components/Section";

export function PasswordForm() {
  const { t } = useTranslation();
  const [current, setCurrent] = useState("");
  const [next, setNext] = useState("");
  const change = api.useMutation("put", "/api/v1/me/password", {
    onSuccess: () => {
      setCurrent("");
      setNext("");
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    change.mutate({ body: { current_password: current, new_password: next } });
  };
  return (
    <Section title={t("settings.password")} note={t("settings.passwordNote")}>
      <form onSubmit={submit}>
        <Stack gap="xs">
          <Group align="flex-end">
            <PasswordField
              label={t("settings.currentPassword")}
              autoComplete="current-password"
              value={current}
              required
              onChange={(event) => setCurrent(event.currentTarget.value)}
              w={240}
            />
            <PasswordField
              label={t("settings.newPassword")}
              autoComplete="new-password"
              value={next}
              required
              onChange={(event) => setNext(event.currentTarget.value)}
              w={240}
            />
            <Button type="submit" variant="default" loading={change.isPending}>
              {t("settings.changePassword")}
            </Button>
          </Group>
          <Text size="sm" role="status">
            {change.isSuccess && t("settings.passwordChanged")}
          </Text>
          {change.error && <ErrorNote error={change.error} />}
        </Stack>
      </form>
    </Section>
  );
}
