import { Button, Stack, TextInput } from "@mantine/core";
import { type FormEvent, useState } from "react";
import { useTranslation } from "react-i18next";
import { api, setMe } from "@/api/client";
import { ErrorNote } from "@/components/ErrorNote";
import { PasswordField } from "@/components/PasswordField";
import { Entrance } from "./Entrance";

export function SignInPage() {
  const { t } = useTranslation();
  const [username, setUsername] = useState("");
  const [password, setPassword] = useState("");
  const signIn = api.useMutation("post", "/api/v1/session", {
    onSuccess: setMe,
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    signIn.mutate({ body: { username, password } });
  };
  return (
    <Entrance title={t("accounts.signIn")}>
      <form onSubmit={submit}>
        <Stack>
          <TextInput
            label={t("accounts.username")}
            autoComplete="username"
            autoFocus
            required
            value={username}
            onChange={(event) => setUsername(event.currentTarget.value)}
          />
          <PasswordField
            label={t("accounts.password")}
            autoComplete="current-password"
            required
            value={password}
            onChange={(event) => setPassword(event.currentTarget.value)}
          />
          {signIn.error && <ErrorNote error={signIn.error} />}
          <Button type="submit" loading={signIn.isPending}>
            {t("accounts.signIn")}
          </Button>
        </Stack>
      </form>
    </Entrance>
  );
}
