import { Text, TextInput } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { api, setMe } from "@/api/client";
import { Form, useForm } from "@/components/Form";
import { PasswordField } from "@/components/PasswordField";
import { Entrance } from "./Entrance";

/** First run: whoever knows the setup code, which the server printed or was given, makes the first owner. */
export function SetupPage({ enabled }: { enabled: boolean }) {
  const { t } = useTranslation();
  const setup = api.useMutation("post", "/api/v1/setup", { onSuccess: setMe });
  const { values, text } = useForm({ code: "", username: "", password: "", workspace: "" }, setup.error);
  if (!enabled) {
    return (
      <Entrance title={t("accounts.setup")}>
        <Text size="sm">{t("accounts.setupDisabled")}</Text>
      </Entrance>
    );
  }
  return (
    <Entrance title={t("accounts.setup")} text={t("accounts.setupText")}>
      <Form label={t("accounts.setupDo")} onSubmit={() => setup.mutate({ body: values })} request={setup}>
        <TextInput
          label={t("accounts.code")}
          description={t("accounts.codeText")}
          autoComplete="off"
          autoFocus
          {...text("code")}
        />
        <TextInput label={t("accounts.username")} autoComplete="username" {...text("username")} />
        <PasswordField
          label={t("accounts.password")}
          description={t("accounts.passwordText")}
          autoComplete="new-password"
          {...text("password")}
        />
        <TextInput
          label={t("accounts.workspace")}
          description={t("accounts.workspaceText")}
          autoComplete="off"
          pattern="[a-z0-9][a-z0-9\-]{0,38}"
          {...text("workspace")}
        />
      </Form>
    </Entrance>
  );
}
