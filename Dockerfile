# rarefy on the CPU. docker build -t rarefy . && docker run --rm -v "$PWD":/work rarefy run recipe.yaml
FROM python:3.11-slim
COPY . /rarefy
RUN pip install --no-cache-dir '/rarefy[cpu]'
WORKDIR /work
ENTRYPOINT ["rarefy"]
