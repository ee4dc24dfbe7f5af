import { Button, Stack, Text, TextInput } from "@mantine/core";
import { type FormEvent, useState } from "react";
import { useTranslation } from "react-i18next";
import { api, setMe } from "@/api/client";
import { fieldErrors } from "@/api/errors";
import { ErrorNote } from "@/components/ErrorNote";
import { PasswordField } from "@/components/PasswordField";
import { Entrance } from "./Entrance";

/** First run: whoever knows the setup code, which the server printed or was given, makes the first owner. */
export function SetupPage({ enabled }: { enabled: boolean }) {
  const { t } = useTranslation();
  const [form, setForm] = useState({ code: "", username: "", password: "", workspace: "" });
  const setup = api.useMutation("post", "/api/v1/setup", {
    onSuccess: setMe,
  });
  if (!enabled) {
    return (
      <Entrance title={t("accounts.setup")}>
        <Text size="sm">{t("accounts.setupDisabled")}</Text>
      </Entrance>
    );
  }
  const errors = fieldErrors(setup.error);
  const bind = (name: keyof typeof form) => ({
    value: form[name],
    error: errors[name],
    required: true,
    onChange: (event: { currentTarget: { value: string } }) => setForm({ ...form, [name]: event.currentTarget.value }),
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    setup.mutate({ body: form });
  };
  return (
    <Entrance title={t("accounts.setup")} text={t("accounts.setupText")}>
      <form onSubmit={submit}>
        <Stack>
          <TextInput
            label={t("accounts.code")}
            description={t("accounts.codeText")}
            autoComplete="off"
            autoFocus
            {...bind("code")}
          />
          <TextInput label={t("accounts.username")} autoComplete="username" {...bind("username")} />
          <PasswordField
            label={t("accounts.password")}
            description={t("accounts.passwordText")}
            autoComplete="new-password"
            {...bind("password")}
          />
          <TextInput
            label={t("accounts.workspace")}
            description={t("accounts.workspaceText")}
            autoComplete="off"
            pattern="[a-z0-9][a-z0-9\-]{0,38}"
            {...bind("workspace")}
          />
          {setup.error && <ErrorNote error={setup.error} />}
          <Button type="submit" loading={setup.isPending}>
            {t("accounts.setupDo")}
          </Button>
        </Stack>
      </form>
    </Entrance>
  );
}
