#!/bin/sh
# Trains a model on photos of one dog over HTTP, then has it drawn four times:
#
#   make serve                       # in another terminal
#   examples/my_dog.sh my_photos rex
#
# Both words may be left out. PRESET is quick, balanced (where it is not set) or thorough; BASE a
# model to start from; SETTINGS a JSON object of single settings; DOGBOOTH_URL and DOGBOOTH_KEY say
# where the service is and what it asks for; OUTPUT is the folder that the pictures are saved in.
set -eu

here=$(dirname "$0")
folder=${1:-$here/../../shared/data/dreambooth_subjects/dog6}
name=${2:-mydog}
url=${DOGBOOTH_URL:-http://127.0.0.1:8000}
output=${OUTPUT:-$name-pictures}

fail() {
    echo "my_dog.sh: $*" >&2
    exit 1
}

# Asks the service; prints its answer, or its own words for what went wrong, and ends.
ask() {
    answer=$(curl -sS -w '\n%{http_code}' -H "Authorization: Bearer ${DOGBOOTH_KEY:-none}" "$@") ||
        fail "the service at $url does not answer (start it with: make serve)"
    status=$(printf '%s' "$answer" | tail -n 1)
    answer=$(printf '%s' "$answer" | sed '$d')
    case $status in
    2*) printf '%s\n' "$answer" ;;
    *) fail "$status: $(printf '%s' "$answer" | reason)" ;;
    esac
}

# The string that a JSON answer has under a key, and the message of its error.
text() {
    sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"
}

reason() {
    sed -n 's/.*"error":{"code":"[^"]*","message":"\([^"]*\)".*/\1/p'
}

[ -d "$folder" ] || fail "no folder $folder"
set -- -F "name=$name" -F "preset=${PRESET:-balanced}"
[ -z "${BASE:-}" ] || set -- "$@" -F "base=$BASE"
[ -z "${SETTINGS:-}" ] || set -- "$@" --form-string "settings=$SETTINGS"
for photo in "$folder"/*; do
    set -- "$@" -F "photos=@\"$photo\""
done

training=$(ask "$@" "$url/trainings")
id=$(printf '%s' "$training" | text id)
echo "training $id: $(printf '%s' "$training" | sed 's/.*"photos":\([0-9]*\).*/\1/') photos of $name"

said=
while :; do
    training=$(ask "$url/trainings/$id")
    state=$(printf '%s' "$training" | text state)
    line=$state
    steps=$(printf '%s' "$training" | sed -n 's/.*"step":\([0-9]*\),"steps":\([0-9]*\).*/step \1 of \2/p')
    left=$(printf '%s' "$training" | sed -n 's/.*"seconds_left":\([0-9]*\).*/, \1 s left/p')
    [ "$state" != running ] || line="$state: $steps$left"
    [ "$line" = "$said" ] || echo "$line"
    said=$line
    case $state in
    succeeded) break ;;
    failed) fail "the training failed: $(printf '%s' "$training" | reason)" ;;
    cancelled) fail "the training was cancelled" ;;
    esac
    sleep 2
done

model=$(ask "$url/models/$name")
prompt=$(printf '%s' "$model" | sed 's/.*"instance_prompts":\["\([^"]*\)".*/\1/')
echo "drawing: $prompt"
drawn=$(ask -H 'Content-Type: application/json' \
    -d "{\"prompt\": \"$prompt\", \"model\": \"$name\", \"n\": 4, \"seed\": 0}" "$url/generate")
mkdir -p "$output"
number=1
for picture in $(printf '%s' "$drawn" | tr ',' '\n' | sed -n 's/.*"url":"\([^"]*\)".*/\1/p'); do
    curl -sSf -H "Authorization: Bearer ${DOGBOOTH_KEY:-none}" -o "$output/$number.png" \
        "$url$picture" || fail "the picture $picture was not to be had"
    echo "$output/$number.png"
    number=$((number + 1))
done
