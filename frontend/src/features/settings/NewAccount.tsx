import { Button, Group, Stack, Text, TextInput } from "@mantine/core";
import { type FormEvent, useState } from "react";
import { useTranslation } from "react-i18next";
import { api } from "@/api/client";
import { fieldErrors } from "@/api/errors";
import { ErrorNote } from "@/components/ErrorNote";
import { PasswordField } from "@/components/PasswordField";
import { Section } from "@/components/Section";

/** Whoever runs the installation makes accounts; owners then let them into their workspaces. */
export function NewAccount() {
  const { t } = useTranslation();
  const [username, setUsername] = useState("");
  const [password, setPassword] = useState("");
  const create = api.useMutation("post", "/api/v1/users", {
    onSuccess: () => {
      setUsername("");
      setPassword("");
    },
  });
  const errors = fieldErrors(create.error);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    create.mutate({ body: { username, password } });
  };
  return (
    <Section title={t("members.account")} note={t("members.accountNote")}>
      <form onSubmit={submit}>
        <Stack gap="xs">
          <Group align="flex-end">
            <TextInput
              label={t("members.accountName")}
              value={username}
              required
              autoComplete="off"
              error={errors.username}
              onChange={(event) => setUsername(event.currentTarget.value)}
            />
            <PasswordField
              label={t("members.accountPassword")}
              autoComplete="new-password"
              value={password}
              required
              error={errors.password}
              onChange={(event) => setPassword(event.currentTarget.value)}
              w={240}
            />
            <Button type="submit" variant="default" loading={create.isPending}>
              {t("members.accountMake")}
            </Button>
          </Group>
          <Text size="sm" role="status">
            {create.isSuccess && t("members.accountMade", { name: create.data.username })}
          </Text>
          {create.error && <ErrorNote error={create.error} />}
        </Stack>
      </form>
    </Section>
  );
}
