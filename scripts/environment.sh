# Sourced by the other scripts: makes the project's private environment in .venv, once, and again
# when pyproject.toml changes. It sees the system's packages because bcc comes from there
# (python3-bpfcc); so it stands on the system's own Python, not on another that comes first in PATH.

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
environment=$project/.venv

# fail WHY REMEDY: the two lines of every error, and the exit status of "cannot run here".
fail() {
    printf '%s: %s\n' "$(basename "$0")" "$1" "$(basename "$0")" "$2" >&2
    exit 3
}

# need_packages PACKAGE...: Debian packages, installed if this is root on an apt system (and said so),
# asked for otherwise.
need_packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        fail "these packages are missing: ${missing[*]}" "install them with: sudo apt-get install ${missing[*]}"
    fi
    printf '%s: installing with apt-get: %s\n' "$(basename "$0")" "${missing[*]}" >&2
    if ! { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}"; } >&2; then
        fail "apt-get could not install ${missing[*]}" "install them by hand, then run this again"
    fi
}

# ensure_environment [EXTRA]: brings .venv up to date; EXTRA is an optional dependency set. What was asked
# for once stays; "dev" has all the others.
ensure_environment() {
    local extras want
    [ -x /usr/bin/python3 ] || fail "the system has no /usr/bin/python3" "install it with: sudo apt-get install python3 python3-venv"
    /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "the system's Python is older than 3.11" "use Debian 12, Ubuntu 24.04 or later"
    extras=$({ cat "$environment/extras" 2>/dev/null; printf '%s\n' "${1:-}"; } | grep . | sort -u | paste -sd,)
    case ,$extras, in *,dev,*) extras=dev ;; esac
    want=$(cat "$project/pyproject.toml" <(/usr/bin/python3 --version) <(echo "$project $extras") | sha256sum)
    [ "$(cat "$environment/stamp" 2>/dev/null)" != "$want" ] || return 0
    [ -w "$project" ] || fail "no environment in $environment, and this user may not make one" "run this once as the owner of $project"
    (
        flock 9
        [ "$(cat "$environment/stamp" 2>/dev/null)" != "$want" ] || exit 0
        /usr/bin/python3 -c 'import ensurepip' 2>/dev/null || need_packages python3-venv
        printf '%s: setting up a private environment in .venv (once)\n' "$(basename "$0")" >&2
        # Not --clear: what runs from it at this moment goes on.
        if ! { /usr/bin/python3 -m venv --upgrade --system-site-packages "$environment" &&
            "$environment/bin/pip" install --quiet --disable-pip-version-check --editable "$project${extras:+[$extras]}"; } >&2; then
            fail "the environment could not be set up" "see the lines above; pip must reach a package index"
        fi
        printf '%s\n' "$extras" | tr , '\n' >"$environment/extras"
        printf '%s\n' "$want" >"$environment/stamp"
    ) 9>"$project/.venv.lock" || exit $?
}
