import { Center, Container, Loader } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { Outlet } from "react-router";
import { api } from "@/api/client";
import { ErrorNote } from "@/components/ErrorNote";
import { SetupPage } from "@/features/accounts/SetupPage";
import { SignInPage } from "@/features/accounts/SignInPage";
import { useMe } from "@/session/session";

/** Lets the signed-in through to the page that they asked for; others sign in at the same address. */
export function Gate() {
  const { t } = useTranslation();
  const { me, error } = useMe();
  const setup = api.useQuery("get", "/api/v1/setup", undefined, { enabled: me === null });
  if (me) return <Outlet />;
  const problem = error ?? setup.error;
  if (problem) {
    return (
      <Container size="xs" py="xl">
        <ErrorNote error={problem} />
      </Container>
    );
  }
  if (me === null && setup.data) {
    return setup.data.needed ? <SetupPage enabled={setup.data.enabled} /> : <SignInPage />;
  }
  return (
    <Center h="100vh">
      <Loader aria-label={t("shell.loading")} />
    </Center>
  );
}
