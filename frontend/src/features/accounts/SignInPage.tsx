import { TextInput } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { api, setMe } from "@/api/client";
import { Form, useForm } from "@/components/Form";
import { PasswordField } from "@/components/PasswordField";
import { Entrance } from "./Entrance";

export function SignInPage() {
  const { t } = useTranslation();
  const signIn = api.useMutation("post", "/api/v1/session", { onSuccess: setMe });
  const { values, text } = useForm({ username: "", password: "" }, signIn.error);
  return (
    <Entrance title={t("accounts.signIn")}>
      <Form label={t("accounts.signIn")} onSubmit={() => signIn.mutate({ body: values })} request={signIn}>
        <TextInput label={t("accounts.username")} autoComplete="username" autoFocus {...text("username")} />
        <PasswordField label={t("accounts.password")} autoComplete="current-password" {...text("password")} />
      </Form>
    </Entrance>
  );
}
