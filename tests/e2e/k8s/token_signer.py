"""The part of an API server that signs tokens for pods: a key, its public half as a JSON Web Key Set, and the claims of a bound token."""
import base64
import json
import os
import subprocess
import time

ISSUER = "https://kubernetes.default.svc.cluster.local"


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class TokenSigner:
    def __init__(self, folder):
        os.makedirs(folder, exist_ok=True)
        self.key = os.path.join(folder, "signing.pem")
        subprocess.run(["openssl", "genrsa", "-out", self.key, "2048"], check=True, capture_output=True)

    def jwks(self):
        said = subprocess.run(["openssl", "rsa", "-in", self.key, "-modulus", "-noout"], check=True, capture_output=True, text=True).stdout
        modulus = bytes.fromhex(said.strip().split("=")[1])
        key = {"use": "sig", "kty": "RSA", "kid": "cluster-1", "alg": "RS256", "n": base64url(modulus), "e": base64url((65537).to_bytes(3, "big"))}
        return json.dumps({"keys": [key]})

    def claims(self, pod, audience, seconds):
        now = int(time.time())
        account = pod.spec["serviceAccountName"]
        return {"aud": [audience], "exp": now + seconds, "iat": now, "nbf": now, "iss": ISSUER, "sub": f"system:serviceaccount:default:{account}",
                "kubernetes.io": {"namespace": "default", "node": {"name": pod.machine, "uid": pod.machine}, "pod": {"name": pod.name, "uid": pod.id},
                                  "serviceaccount": {"name": account, "uid": account}}}

    def sign(self, claims):
        text = base64url(json.dumps({"alg": "RS256", "kid": "cluster-1"}).encode()) + "." + base64url(json.dumps(claims).encode())
        signed = subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.key], input=text.encode(), check=True, capture_output=True).stdout
        return f"{text}.{base64url(signed)}"
